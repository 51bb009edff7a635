// The page of a wallet as a browser shows it: its features are those of the set, its events those that the lake has of it, and each
// feature leads to how it came about.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { SCREENS, faults, open, start, values } from './browser.js';
import { pictures, query, run } from './lake.js';

// The wallet of the most borrows: it has a history to show.
const [features] = query('select * from db_analytics_dev.defi_features order by borrow_count desc, wallet_address limit 1');
const { wallet_address: address, as_of: asOf, ...figures } = features;
const file = path.join(pictures, 'wallet.html');

let browser;

before(async () => {
  mkdirSync(pictures, { recursive: true });
  run('wallet', address, '--html', file);
  browser = await start();
});
after(() => browser?.close());

const opened = (options, work) => open(browser, file, options, work);

test('features are those of the set, and lead to their explanations', () => opened({}, async (page) => {
  assert.equal(await page.title(), `Wallet ${address} as of ${asOf}`);
  assert.equal(Object.keys(figures).length, 26);
  for (const [name, figure] of Object.entries(figures)) {
    const row = `#features tr:has(a[href="#${name}"])`;
    assert.deepEqual(await values(page, row), figure === null ? [] : [figure], name);
    const explanation = page.locator(`#explanations details[id="${name}"]`);
    assert.match(await explanation.textContent(), /the same\./, name);
  }
  await page.click('#features a[href="#borrow_amount_sum_eth"]');
  assert.ok((await page.evaluate(() => location.hash)).endsWith('borrow_amount_sum_eth'));
}));

test('events that count are the borrows of the set', () => opened({}, async (page) => {
  const rows = await page.$$eval('#events tbody tr', (all) =>
    all.map((row) => [...row.cells].map((cell) => cell.textContent)));
  const borrows = rows.filter(([, event, , , , counts]) => event === 'borrow' && counts === 'yes');
  assert.equal(borrows.length, figures.borrow_count);
  assert.ok(borrows.length > 1, 'the wallet has something to show');
  const times = rows.map(([time]) => time);
  assert.deepEqual(times, times.toSorted());
}));

for (const { width, scheme } of SCREENS) {
  test(`it is read at a width of ${width}, ${scheme}`, () => opened({ width, scheme }, async (page) => {
    await page.screenshot({ path: path.join(pictures, `wallet-${width}-${scheme}.png`), fullPage: true });
    assert.deepEqual(await faults(page), []);
  }));
}
