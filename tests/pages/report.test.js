// The report of a run as a browser shows it: its figures are the lake's, it asks for nothing, and it is read on a phone and at a
// desk, in light and in dark.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { SCREENS, faults, open, start, values } from './browser.js';
import { json, lake, pictures, query, run, runs } from './lake.js';

const newest = runs.at(-1);
const asOf = newest.slice(0, 10);
const earlier = runs.at(-2).slice(0, 10);
const HISTORY = 'db_analytics_dev.defi_features_history';
const CATEGORIES = ['borrow', 'deposit', 'liquidation', 'repay', 'withdraw'];

let browser;
let file;

before(async () => {
  mkdirSync(pictures, { recursive: true });
  file = run('report').trim();
  browser = await start();
});
after(() => browser?.close());

/** Works with the report open. */
const opened = (options, work) => open(browser, file, options, work);

const near = (actual, wanted, what) =>
  assert.ok(Math.abs(actual - wanted) <= 1e-9 * Math.max(1, Math.abs(wanted)), `${what}: ${actual}, not ${wanted}`);

test('the page is that of the newest run, beside its other objects', async () => {
  assert.equal(file, path.join(lake, 'runs', newest, 'report.html'));
  await opened({}, async (page) => {
    assert.equal(await page.title(), `Features as of ${asOf} (dev)`);
    assert.equal(await page.textContent('#run'), newest);
  });
});

test('steps are those of the run', async () => {
  const { steps } = json('runs', newest, 'report.json');
  await opened({}, async (page) => {
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

test('checks have their figures, limits, outcomes and history', async () => {
  const { checks } = json('runs', newest, 'check-features.json');
  await opened({}, async (page) => {
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

test('features have the figures of both sets', async () => {
  const columns = Object.keys(query(`select * from ${HISTORY} limit 1`)[0])
    .filter((name) => !['wallet_address', 'as_of'].includes(name));
  assert.equal(columns.length, 26);
  const of = (name) => `median(cast(${name} as double)) as median, avg(${name}) as mean, max(${name}) as max,
    avg(case when ${name} = 0 then 1.0 else 0.0 end) as zero, avg(case when ${name} is null then 1.0 else 0.0 end) as nulls`;
  await opened({}, async (page) => {
    for (const name of columns) {
      const sets = query(`select as_of, ${of(name)} from ${HISTORY} group by as_of order by as_of desc limit 2`);
      assert.deepEqual(sets.map((set) => set.as_of), [asOf, earlier]);
      for (const [row, column] of [['median', 'median'], ['mean', 'mean'], ['max', 'max'], ['zero', 'zero'], ['NULL', 'nulls']]) {
        const [now, was, shift] = await values(page, `#feature-${name} tr.${row}`);
        near(now, sets[0][column], `${name} ${row}`);
        near(was, sets[1][column], `${name} ${row} before`);
        near(shift, sets[0][column] - sets[1][column], `${name} ${row} shift`);
      }
      assert.equal(await page.locator(`#feature-${name} svg rect`).count() > 0, true, `${name} has no bars`);
    }
  });
  const [{ wallets }] = query(`select count(*) as wallets from db_analytics_dev.defi_features`);
  await opened({}, async (page) => assert.deepEqual(await values(page, '#tile-wallets'), [wallets]));
});

test('movers are new, changed or not, and the wallets of both sets', async () => {
  const both = `${HISTORY} n join ${HISTORY} b on n.wallet_address = b.wallet_address
    where n.as_of = '${asOf}' and b.as_of = '${earlier}'`;
  const [{ common }] = query(`select count(*) as common from ${both}`);
  const [{ wallets }] = query(`select count(*) as wallets from ${HISTORY} where as_of = '${asOf}'`);
  await opened({}, async (page) => {
    const [fresh, changed, same] = await values(page, '#movers p');
    assert.deepEqual([fresh, changed + same], [wallets - common, common]);
    const distances = await values(page, '#movers tbody');
    assert.equal(distances.length, Math.min(20, changed));
    assert.deepEqual(distances, [...distances].sort((a, b) => b - a));
  });
});

test('days are counted as the tables have them', async () => {
  const events = CATEGORIES.map((category) =>
    `select protocol, cast(timestamp as date) as day from db_analytics_dev.transpose_${category}_events`).join(' union all ');
  const counted = {
    events: query(`select day, protocol, count(*) as count from (${events}) group by day, protocol`),
    positions: query(`select cast(block_timestamp as date) as day, protocol, count(*) as count
      from db_stage_dev.the_graph_historical_account_positions group by 1, 2`),
    wallets: query(`select day, protocol, count(distinct wallet_address) as count
      from db_analytics_dev.wallet_health_daily group by day, protocol`),
  };
  await opened({}, async (page) => {
    for (const [name, counts] of Object.entries(counted)) {
      const table = page.locator(`figure:has(#days-${name}-title) table`);
      const header = await table.locator('thead th').allTextContents();
      let seen = 0;
      for (const row of await table.locator('tbody tr').all()) {
        const cells = await row.locator('td').allTextContents();
        header.forEach((protocol, index) => {
          if (index === 0 || ['–', '0'].includes(cells[index])) return;
          const found = counts.find((count) => count.day === cells[0] && count.protocol === protocol);
          assert.equal(Number(cells[index].replaceAll(',', '')), found?.count, `${name} ${cells[0]} ${protocol}`);
          seen += 1;
        });
      }
      assert.equal(seen, counts.length, name);
    }
  });
});

test('what could not be used is counted', async () => {
  const unpriced = CATEGORIES.map((category) =>
    `select token_address from db_analytics_dev.transpose_${category}_events where quantity_eth is null`).join(' union all ');
  const tokens = query(`select token_address, count(*) as count from (${unpriced}) group by 1`);
  // Of the current positions only the newest run's are kept.
  const isKept = (name, { step }) => name === newest || step !== 'extract-current-positions';
  const rejected = runs.flatMap((name) => json('runs', name, 'report.json').steps.filter((step) => isKept(name, step)))
    .flatMap((step) => Object.values(step.rejected ?? {})).reduce((sum, count) => sum + count, 0);
  await opened({}, async (page) => {
    assert.deepEqual(await values(page, '#unpriced-events'), [tokens.reduce((sum, { count }) => sum + count, 0)]);
    for (const { token_address: token, count } of tokens) {
      assert.equal((await values(page, `#unpriced tr:has(code:text-is("${token}"))`))[0], count, token);
    }
    assert.deepEqual(await values(page, '#quarantined-rows'), [rejected]);
    assert.ok(rejected > 0 && tokens.length > 0, 'the lake has something to show');
    assert.equal(await page.locator('#quarantine tbody details').count() > 0, true);
    assert.match(await page.textContent('#gaps'), /No day is missing/);
  });
});

for (const { width, scheme } of SCREENS) {
  test(`it is read at a width of ${width}, ${scheme}`, () => opened({ width, scheme }, async (page) => {
    await page.screenshot({ path: path.join(pictures, `report-${width}-${scheme}.png`), fullPage: true });
    for (const part of ['steps', 'checks', 'features', 'movers', 'days', 'unpriced', 'quarantine']) {
      await page.locator(`#${part}`).screenshot({ path: path.join(pictures, `report-${width}-${scheme}-${part}.png`) });
    }
    assert.deepEqual(await faults(page), []);
  }));
}
