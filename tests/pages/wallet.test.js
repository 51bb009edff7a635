// The page of a wallet in a browser: its features are the published ones, its events match the lake, and each feature
// links to its explanation.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { SCREENS, layoutProblems, open, start, values } from './browser.js';
import { screenshots, query, run } from './lake.js';

// The wallet with the most borrows.
const [features] = query('select * from db_analytics_dev.defi_features order by borrow_count desc, wallet_address limit 1');
const { wallet_address: address, as_of: asOf, ...expectedFeatures } = features;
const file = path.join(screenshots, 'wallet.html');

let browser;

before(async () => {
  mkdirSync(screenshots, { recursive: true });
  run('wallet', address, '--html', file);
  browser = await start();
});
after(() => browser?.close());

const withPage = (options, work) => open(browser, file, options, work);

test('features are the published ones and link to explanations', () => withPage({}, async (page) => {
  assert.equal(await page.title(), `Wallet ${address} as of ${asOf}`);
  assert.equal(Object.keys(expectedFeatures).length, 28);
  for (const [name, expected] of Object.entries(expectedFeatures)) {
    const row = `#features tr:has(a[href="#${name}"])`;
    assert.deepEqual(await values(page, row), typeof expected === 'number' ? [expected] : [], name);
    const explanation = page.locator(`#explanations details[id="${name}"]`);
    assert.match(await explanation.textContent(), /the same\./, name);
  }
  await page.click('#features a[href="#borrow_amount_sum_eth"]');
  assert.ok((await page.evaluate(() => location.hash)).endsWith('borrow_amount_sum_eth'));
}));

test('counted borrows match borrow_count', () => withPage({}, async (page) => {
  const rows = await page.$$eval('#events tbody tr', (all) =>
    all.map((row) => [...row.cells].map((cell) => cell.textContent)));
  const borrows = rows.filter(([, event, , , , counts]) => event === 'borrow' && counts === 'yes');
  assert.equal(borrows.length, expectedFeatures.borrow_count);
  assert.ok(borrows.length > 1, 'the wallet has at most one borrow');
  const times = rows.map(([time]) => time);
  assert.deepEqual(times, times.toSorted());
}));

for (const { width, scheme } of SCREENS) {
  test(`is readable at a width of ${width}, ${scheme}`, () => withPage({ width, scheme }, async (page) => {
    await page.screenshot({ path: path.join(screenshots, `wallet-${width}-${scheme}.png`), fullPage: true });
    assert.deepEqual(await layoutProblems(page), []);
  }));
}
