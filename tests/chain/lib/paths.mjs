// The folders of what `setup.mjs` installs.

import path from 'node:path';

/** The folder of these tests. */
export const root = path.resolve(import.meta.dirname, '..');

/** The contracts of the npm packages that contracts.json lists. They are not dependencies, because they can't be installed. */
export const packages = path.join(root, 'node_modules/contract-packages');

/** The contracts that are compiled here. */
export const compiled = path.join(root, 'node_modules/compiled-contracts');

/** The Ethereum node. */
export const anvil = path.join(root, 'node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil');
