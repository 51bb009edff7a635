// Fetches the packages with the contracts, checks their hashes, and compiles what they do not have compiled. `npm ci` must
// have run before.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { compile } from './lib/compile.mjs';
import { packages, root } from './lib/paths.mjs';

/** Fetches a package as a tarball, and extracts the files that are needed. */
function fetchPackage({ package: name, version, integrity, folder, files }, temporary) {
  const options = ['--silent', '--ignore-scripts', '--pack-destination', temporary];
  const file = execFileSync('npm', ['pack', ...options, `${name}@${version}`], { encoding: 'utf8' }).trim();
  const tarball = path.join(temporary, file);
  const hash = `sha512-${createHash('sha512').update(readFileSync(tarball)).digest('base64')}`;
  if (hash !== integrity) throw new Error(`${name} ${version} has the hash ${hash}, expected ${integrity}`);
  const target = path.join(packages, folder);
  mkdirSync(target, { recursive: true });
  const wanted = files.map((name) => `package/${name}`);
  execFileSync('tar', ['xzf', tarball, '-C', target, '--strip-components=1', '--no-same-owner', ...wanted]);
}

const temporary = mkdtempSync(path.join(tmpdir(), 'contracts-'));
try {
  rmSync(packages, { recursive: true, force: true });
  const list = JSON.parse(readFileSync(path.join(root, 'contracts.json'), 'utf8'));
  list.forEach((entry) => fetchPackage(entry, temporary));
} finally {
  rmSync(temporary, { recursive: true, force: true });
}
compile();
