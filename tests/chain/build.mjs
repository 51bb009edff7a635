// Builds a chain, writes its files, and ends its node.

import { buildChain } from './lib/build.mjs';
import { parseOptions } from './lib/options.mjs';

const node = await buildChain(parseOptions(process.argv.slice(2)), console.log);
await node.stop();
