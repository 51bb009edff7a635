// Pages in a browser without a window, watched for what they should not do.

import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';

import { chromium } from 'playwright-core';

/** What pages are read on. */
export const SCREENS = ['light', 'dark'].flatMap((scheme) => [360, 820, 1400].map((width) => ({ width, scheme })));

/** Starts the browser of this machine. */
export function start() {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
}

/** Works with a file open, and fails for what the page logs as an error, throws, or asks of the network. */
export async function open(browser, file, { width = 1400, height = 900, scheme = 'light' }, work) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme });
  const page = await context.newPage();
  const url = pathToFileURL(file).href;
  const wrong = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) wrong.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => wrong.push(`error: ${error}`));
  page.on('request', (request) => {
    if (request.url() !== url && !request.url().startsWith('data:')) wrong.push(`request: ${request.url()}`);
  });
  try {
    await page.goto(url);
    await work(page);
    assert.deepEqual(wrong, []);
  } finally {
    await context.close();
  }
}

/** The exact values below an element. */
export const values = (page, selector) =>
  page.$$eval(`${selector} data`, (all) => all.map((element) => Number(element.value)));

/** What keeps a page from being read, folded and unfolded. */
export async function faults(page) {
  const found = [...await overflow(page), ...await unreadable(page), ...await faint(page)];
  await page.evaluate(() => document.querySelectorAll('details').forEach((details) => { details.open = true; }));
  return [...found, ...(await overflow(page)).map((fault) => `unfolded: ${fault}`), ...await faint(page)];
}

/** What reaches out of the page to the right, and what scrolls sideways though it is no frame for that. */
function overflow(page) {
  return page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    const whole = document.documentElement.scrollWidth;
    const found = whole > width ? [`the page is ${whole} wide`] : [];
    for (const element of document.body.querySelectorAll('*')) {
      const box = element.getBoundingClientRect();
      if (box.width > 0 && box.right > width + 1 && !element.closest('.scroll')) {
        found.push(`${element.tagName} ${element.id} ${element.className?.baseVal ?? element.className} ends at ${box.right}`);
      }
    }
    return found;
  });
}

/** Pictures that say nothing to a screen reader, words in them that are too small or cut off, and ids that are there twice. */
function unreadable(page) {
  return page.evaluate(() => {
    const found = [];
    for (const svg of document.querySelectorAll('svg')) {
      const parts = (svg.getAttribute('aria-labelledby') ?? '').split(' ').map((id) => document.getElementById(id));
      const name = parts[0]?.textContent;
      if (svg.getAttribute('role') !== 'img' || parts.length !== 2 || parts.some((part) => !part?.textContent.trim())) {
        found.push(`a picture without a name or a description: ${name}`);
      }
      if (svg.getBoundingClientRect().width === 0) continue;
      const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
      for (const text of svg.querySelectorAll('text')) {
        const size = parseFloat(getComputedStyle(text).fontSize) * scale;
        if (size < 9) found.push(`${name}: "${text.textContent.trim()}" is ${size.toFixed(1)} px high`);
        const box = text.getBBox();
        const { width, height } = svg.viewBox.baseVal;
        if (box.x < -1 || box.y < -1 || box.x + box.width > width + 1 || box.y + box.height > height + 1) {
          found.push(`${name}: "${text.textContent.trim()}" is cut off`);
        }
      }
    }
    const ids = [...document.querySelectorAll('[id]')].map((element) => element.id);
    found.push(...ids.filter((id, index) => ids.indexOf(id) !== index).map((id) => `the id ${id} is there twice`));
    return found;
  });
}

/** Words whose colour is too near to that behind them: WCAG's 4.5 to 1. */
function faint(page) {
  return page.evaluate(() => {
    const numbers = (color) => color.match(/[\d.]+/g).map(Number);
    const light = (color) => {
      const [red, green, blue] = numbers(color).map((part) => part / 255).map((part) =>
        part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const behind = (element) => {
      const color = getComputedStyle(element).backgroundColor;
      return numbers(color)[3] === 0 && element.parentElement ? behind(element.parentElement) : color;
    };
    const found = new Set();
    for (const element of document.querySelectorAll('body *')) {
      const says = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
      if (!says || element.closest('title, desc')) continue;
      const style = getComputedStyle(element);
      const [ink, paper] = [light(element.tagName === 'text' ? style.fill : style.color), light(behind(element))];
      const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
      const name = element.className?.baseVal ?? element.className;
      if (contrast < 4.5) found.add(`${element.tagName}.${name}: ${contrast.toFixed(2)}`);
    }
    return [...found];
  });
}
