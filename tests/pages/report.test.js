// The report of a run in a browser: its values match the lake, it makes no network request, and it is readable on a
// phone and on a desktop, in light and dark mode.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { SCREENS, layoutProblems, open, start, values } from './browser.js';
import { json, lake, screenshots, query, run, runs } from './lake.js';

const newest = runs.at(-1);
const asOf = newest.slice(0, 10);
const earlier = runs.at(-2).slice(0, 10);
const HISTORY = 'db_analytics_dev.defi_features_history';
const CATEGORIES = ['borrow', 'deposit', 'liquidation', 'repay', 'withdraw'];

let browser;
let file;

before(async () => {
  mkdirSync(screenshots, { recursive: true });
  file = run('report').trim();
  browser = await start();
});
after(() => browser?.close());

/** Runs `work` with the report open. */
const withReport = (options, work) => open(browser, file, options, work);

const assertClose = (actual, expected, name) =>
  assert.ok(Math.abs(actual - expected) <= 1e-9 * Math.max(1, Math.abs(expected)), `${name}: ${actual}, expected ${expected}`);

test('the page is of the newest run', async () => {
  assert.equal(file, path.join(lake, 'runs', newest, 'reports/report-run/report.html'));
  await withReport({}, async (page) => {
    assert.equal(await page.title(), `Features as of ${asOf} (dev)`);
    assert.equal(await page.textContent('#run'), newest);
  });
});

test('steps match the run', async () => {
  const { steps } = json('runs', newest, 'reports/check-features/report.json');
  await withReport({}, async (page) => {
    const names = await page.$$eval('[id^="step-"]', (all) => all.map((element) => element.id.slice(5)));
    assert.deepEqual(names, steps.map((step) => step.step));
    const sum = (counts) => Object.values(counts ?? {}).reduce((sum, count) => sum + count, 0);
    for (const step of steps) {
      const traffic = step.traffic ?? { requests: 0, retries: {} };
      assert.deepEqual(await values(page, `tr:has(> #step-${step.step})`), [
        step.units, step.rows_in, step.rows_out, step.repeats, sum(step.rejected), step.unpriced,
        traffic.requests, sum(traffic.retries), step.bytes,
      ]);
    }
  });
});

test('checks have values, limits, outcomes and history', async () => {
  const { checks } = json('runs', newest, 'reports/check-features/checks.json');
  await withReport({}, async (page) => {
    for (const check of checks) {
      const row = `tr:has(> #check-${check.name})`;
      const limits = [check.warn, check.fail].filter((limit) => limit !== null);
      assert.deepEqual(await values(page, row), [check.figure, ...limits], check.name);
      assert.equal(await page.textContent(`${row} .badge`), check.outcome);
      assert.equal(await page.locator(`${row} svg`).count(), 1);
    }
    const shown = await page.$$eval('#check-history tbody th', (all) => all.map((element) => element.textContent));
    assert.deepEqual(shown, runs);
  });
});

test('feature statistics match both published sets', async () => {
  const columns = Object.keys(query(`select * from ${HISTORY} limit 1`)[0])
    .filter((name) => !['wallet_address', 'as_of'].includes(name));
  assert.equal(columns.length, 28);
  const statistics = (name) => {
    const number = `cast(${name} as double)`; // yes is 1, and no is 0
    return `median(${number}) as median, avg(${number}) as mean, max(${number}) as max,
      avg(case when ${number} = 0 then 1.0 else 0.0 end) as zero, avg(case when ${name} is null then 1.0 else 0.0 end) as nulls`;
  };
  await withReport({}, async (page) => {
    for (const name of columns) {
      const sets = query(`select as_of, ${statistics(name)} from ${HISTORY} group by as_of order by as_of desc limit 2`);
      assert.deepEqual(sets.map((set) => set.as_of), [asOf, earlier]);
      for (const [row, column] of [['median', 'median'], ['mean', 'mean'], ['max', 'max'], ['zero', 'zero'], ['NULL', 'nulls']]) {
        const [current, previous, change] = await values(page, `#feature-${name} tr.${row}`);
        assertClose(current, sets[0][column], `${name} ${row}`);
        assertClose(previous, sets[1][column], `${name} ${row} previous`);
        assertClose(change, sets[0][column] - sets[1][column], `${name} ${row} change`);
      }
      assert.equal(await page.locator(`#feature-${name} svg rect`).count() > 0, true, `${name} has no bars`);
    }
  });
  const [{ wallets }] = query(`select count(*) as wallets from db_analytics_dev.defi_features`);
  await withReport({}, async (page) => assert.deepEqual(await values(page, '#tile-wallets'), [wallets]));
});

test('movers match the wallets of both sets', async () => {
  const both = `${HISTORY} n join ${HISTORY} b on n.wallet_address = b.wallet_address
    where n.as_of = '${asOf}' and b.as_of = '${earlier}'`;
  const [{ common }] = query(`select count(*) as common from ${both}`);
  const [{ wallets }] = query(`select count(*) as wallets from ${HISTORY} where as_of = '${asOf}'`);
  await withReport({}, async (page) => {
    const [added, changed, unchanged] = await values(page, '#movers p');
    assert.deepEqual([added, changed + unchanged], [wallets - common, common]);
    const distances = await values(page, '#movers tbody');
    assert.equal(distances.length, Math.min(20, changed));
    assert.deepEqual(distances, [...distances].sort((a, b) => b - a));
  });
});

test('daily counts match the tables', async () => {
  const events = CATEGORIES.map((category) =>
    `select protocol, cast(timestamp as date) as day from db_analytics_dev.transpose_${category}_events`).join(' union all ');
  const counted = {
    events: query(`select day, protocol, count(*) as count from (${events}) group by day, protocol`),
    positions: query(`select cast(block_timestamp as date) as day, protocol, count(*) as count
      from db_stage_dev.the_graph_historical_account_positions group by 1, 2`),
    wallets: query(`select day, protocol, count(distinct wallet_address) as count
      from db_analytics_dev.wallet_health_daily group by day, protocol`),
  };
  await withReport({}, async (page) => {
    for (const [name, counts] of Object.entries(counted)) {
      const table = page.locator(`figure:has(#days-${name}-title) table`);
      const header = await table.locator('thead th').allTextContents();
      let compared = 0;
      for (const row of await table.locator('tbody tr').all()) {
        const cells = await row.locator('td').allTextContents();
        header.forEach((protocol, index) => {
          if (index === 0 || ['–', '0'].includes(cells[index])) return;
          const expected = counts.find((count) => count.day === cells[0] && count.protocol === protocol);
          assert.equal(Number(cells[index].replaceAll(',', '')), expected?.count, `${name} ${cells[0]} ${protocol}`);
          compared += 1;
        });
      }
      assert.equal(compared, counts.length, name);
    }
  });
});

test('unpriced and quarantined counts match the lake', async () => {
  const unpriced = CATEGORIES.map((category) =>
    `select token_address from db_analytics_dev.transpose_${category}_events where quantity_eth is null`).join(' union all ');
  const tokens = query(`select token_address, count(*) as count from (${unpriced}) group by 1`);
  // The quarantine has current positions of the newest run only.
  const isCounted = (name, { step }) => name === newest || step !== 'extract-current-positions';
  const rejected = runs.flatMap((name) => json('runs', name, 'reports/check-features/report.json').steps.filter((step) => isCounted(name, step)))
    .flatMap((step) => Object.values(step.rejected ?? {})).reduce((sum, count) => sum + count, 0);
  await withReport({}, async (page) => {
    assert.deepEqual(await values(page, '#unpriced-events'), [tokens.reduce((sum, { count }) => sum + count, 0)]);
    for (const { token_address: token, count } of tokens) {
      assert.equal((await values(page, `#unpriced tr:has(code:text-is("${token}"))`))[0], count, token);
    }
    assert.deepEqual(await values(page, '#quarantined-rows'), [rejected]);
    assert.ok(rejected > 0 && tokens.length > 0, 'the lake has no rejected rows or no unpriced tokens');
    assert.equal(await page.locator('#quarantine tbody details').count() > 0, true);
    assert.match(await page.textContent('#gaps'), /No day is missing/);
  });
});

for (const { width, scheme } of SCREENS) {
  test(`is readable at a width of ${width}, ${scheme}`, () => withReport({ width, scheme }, async (page) => {
    await page.screenshot({ path: path.join(screenshots, `report-${width}-${scheme}.png`), fullPage: true });
    // docs/images/report.png is the top of the wide, light page, scaled to 1,000 pixels and 48 colours.
    for (const part of ['steps', 'checks', 'features', 'movers', 'days', 'unpriced', 'quarantine']) {
      await page.locator(`#${part}`).screenshot({ path: path.join(screenshots, `report-${width}-${scheme}-${part}.png`) });
    }
    assert.deepEqual(await layoutProblems(page), []);
  }));
}
