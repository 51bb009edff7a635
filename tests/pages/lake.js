// The lake of the tested pages, read with the defi command.

import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../..');
const defi = path.resolve(root, process.env.DEFI ?? 'target/debug/defi');

/** The folder of the lake. */
export const lake = path.resolve(root, process.env.DEFI_LAKE ?? 'target/pages-lake');

/** The folder for screenshots of the pages. */
export const screenshots = path.resolve(root, 'target/pages');

/** Runs the command and returns its output. */
export function run(...args) {
  return execFileSync(defi, [...args, '--lake', lake], { encoding: 'utf8', maxBuffer: 1 << 28 });
}

/** Runs a query and returns its rows. */
export function query(sql) {
  return JSON.parse(run('query', '--format', 'json', sql));
}

/** The ids of the runs, the newest last. There is one run for each as-of day. */
export const runs = readdirSync(path.join(lake, 'runs')).filter((name) => /^\d/.test(name)).sort();

/** Reads a JSON object of the lake. */
export function json(...key) {
  return JSON.parse(readFileSync(path.join(lake, ...key), 'utf8'));
}
