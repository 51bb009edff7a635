// The lake that the pages are of, asked by the command itself.

import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../..');
const defi = path.resolve(root, process.env.DEFI ?? 'target/debug/defi');

/** The folder of the lake. */
export const lake = path.resolve(root, process.env.DEFI_LAKE ?? 'target/pages-lake');

/** Where pictures of the pages go. */
export const pictures = path.resolve(root, 'target/pages');

/** Runs the command; what it printed. */
export function run(...args) {
  return execFileSync(defi, [...args, '--lake', lake], { encoding: 'utf8', maxBuffer: 1 << 28 });
}

/** The rows that answer a question. */
export function query(sql) {
  return JSON.parse(run('query', '--format', 'json', sql));
}

/** The names of the runs, the newest last: of each day there is one. */
export const runs = readdirSync(path.join(lake, 'runs')).filter((name) => /^\d/.test(name)).sort();

/** An object of the lake that is JSON. */
export function json(...key) {
  return JSON.parse(readFileSync(path.join(lake, ...key), 'utf8'));
}
