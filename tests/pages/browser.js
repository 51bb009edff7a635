// Opens pages in a headless browser, and checks them for errors, network requests, layout and readability.

import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';

import { chromium } from 'playwright-core';

/** The screen widths and color schemes to test. */
export const SCREENS = ['light', 'dark'].flatMap((scheme) => [360, 820, 1400].map((width) => ({ width, scheme })));

/** Starts the installed Chromium. */
export function start() {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
}

/** Runs `work` with a file open. Fails if the page logs an error or a warning, throws, or makes a network request. */
export async function open(browser, file, { width = 1400, height = 900, scheme = 'light' }, work) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme });
  const page = await context.newPage();
  const url = pathToFileURL(file).href;
  const problems = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) problems.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => problems.push(`error: ${error}`));
  page.on('request', (request) => {
    if (request.url() !== url && !request.url().startsWith('data:')) problems.push(`request: ${request.url()}`);
  });
  try {
    await page.goto(url);
    await work(page);
    assert.deepEqual(problems, []);
  } finally {
    await context.close();
  }
}

/** Returns the exact values of the `data` elements within an element. */
export const values = (page, selector) =>
  page.$$eval(`${selector} data`, (all) => all.map((element) => Number(element.value)));

/** Returns the layout and readability problems of a page, with its details elements closed and open. */
export async function layoutProblems(page) {
  const closed = [...await overflow(page), ...await chartProblems(page), ...await lowContrast(page)];
  await page.evaluate(() => document.querySelectorAll('details').forEach((details) => { details.open = true; }));
  return [...closed, ...(await overflow(page)).map((problem) => `open: ${problem}`), ...await lowContrast(page)];
}

/** Returns the elements that extend beyond the right edge of the page, except within elements that may scroll. */
function overflow(page) {
  return page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    const scrollWidth = document.documentElement.scrollWidth;
    const problems = scrollWidth > width ? [`the page is ${scrollWidth} px wide`] : [];
    for (const element of document.body.querySelectorAll('*')) {
      const box = element.getBoundingClientRect();
      if (box.width > 0 && box.right > width + 1 && !element.closest('.scroll')) {
        problems.push(`${element.tagName} ${element.id} ${element.className?.baseVal ?? element.className} ends at ${box.right}`);
      }
    }
    return problems;
  });
}

/** Returns charts without text for a screen reader, texts in them that are too small or cut off, and duplicate ids. */
function chartProblems(page) {
  return page.evaluate(() => {
    const problems = [];
    for (const svg of document.querySelectorAll('svg')) {
      const parts = (svg.getAttribute('aria-labelledby') ?? '').split(' ').map((id) => document.getElementById(id));
      const name = parts[0]?.textContent;
      if (svg.getAttribute('role') !== 'img' || parts.length !== 2 || parts.some((part) => !part?.textContent.trim())) {
        problems.push(`a chart without a name or a description: ${name}`);
      }
      if (svg.getBoundingClientRect().width === 0) continue;
      const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
      for (const text of svg.querySelectorAll('text')) {
        const size = parseFloat(getComputedStyle(text).fontSize) * scale;
        if (size < 9) problems.push(`${name}: "${text.textContent.trim()}" is ${size.toFixed(1)} px high`);
        const box = text.getBBox();
        const { width, height } = svg.viewBox.baseVal;
        if (box.x < -1 || box.y < -1 || box.x + box.width > width + 1 || box.y + box.height > height + 1) {
          problems.push(`${name}: "${text.textContent.trim()}" is cut off`);
        }
      }
    }
    const ids = [...document.querySelectorAll('[id]')].map((element) => element.id);
    problems.push(...ids.filter((id, index) => ids.indexOf(id) !== index).map((id) => `duplicate id ${id}`));
    return problems;
  });
}

/** Returns the elements whose text has a contrast below 4.5 to 1, the minimum of WCAG. */
function lowContrast(page) {
  return page.evaluate(() => {
    const numbers = (color) => color.match(/[\d.]+/g).map(Number);
    const luminance = (color) => {
      const [red, green, blue] = numbers(color).map((part) => part / 255).map((part) =>
        part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const background = (element) => {
      const color = getComputedStyle(element).backgroundColor;
      return numbers(color)[3] === 0 && element.parentElement ? background(element.parentElement) : color;
    };
    const found = new Set();
    for (const element of document.querySelectorAll('body *')) {
      const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
      if (!hasText || element.closest('title, desc')) continue;
      const style = getComputedStyle(element);
      const textColor = element.tagName === 'text' ? style.fill : style.color;
      const [text, behind] = [luminance(textColor), luminance(background(element))];
      const contrast = (Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05);
      const name = element.className?.baseVal ?? element.className;
      if (contrast < 4.5) found.add(`${element.tagName}.${name}: ${contrast.toFixed(2)}`);
    }
    return [...found];
  });
}
