// Builds a chain: the contracts, the days, the truth, the files.

import { mkdirSync } from 'node:fs';

import { deployAave } from './aave.mjs';
import { Chain } from './chain.mjs';
import { deployCompound } from './compound.mjs';
import { deployMulticall3, live, mineAfter } from './days.mjs';
import { writeFiles } from './files.mjs';
import { Truth } from './truth.mjs';
import { hex } from './units.mjs';
import { createUsers } from './users.mjs';

/** The time from the start of the day before the first one to the first contract. */
const DEPLOYMENT_SECONDS = 11;

/** Deploys the contracts and creates the users. */
async function deployAll(chain) {
  const { node, options } = chain;
  await node.mine(node.now + DEPLOYMENT_SECONDS);
  chain.aave = await deployAave(chain);
  if (options.hasCompound) chain.compound = await deployCompound(chain);
  if (options.multicallDay === 0) await deployMulticall3(chain);
  await chain.deploy('Multicall', [], { label: 'multicall' });
  await createUsers(chain);
}

/** Asks again for some days, at their past blocks, and compares the answers with those of then. */
async function checkArchive(chain, days, truth) {
  const expected = new Set(truth.rows);
  const again = new Truth(chain);
  for (const day of new Set([days[0], days[days.length >> 1], days.at(-1)])) await again.add(day, hex(day.block));
  const different = again.rows.filter((row) => !expected.has(row));
  if (different.length > 0) throw new Error(`a past block has other answers now: ${different[0]}`);
  return `${again.rows.length} values are the same when read later at the past block`;
}

/** Builds a chain and writes its files. Returns its running node. `log` is given progress. */
export async function buildChain(options, log) {
  const start = Date.now();
  const step = (text) => log(`${((Date.now() - start) / 1000).toFixed(1)} s: ${text}`);
  mkdirSync(options.out, { recursive: true });
  const chain = await Chain.start(options);
  const { node } = chain;
  try {
    await deployAll(chain);
    step(`deployed, ${node.head} blocks`);
    const truth = new Truth(chain);
    const days = await live(chain, (day) => truth.add(day));
    step(`${options.days} days, ${node.head} blocks`);
    await mineAfter(chain);
    const archive = options.hasArchive ? await checkArchive(chain, days, truth) : 'not kept';
    const { transactions, failed, logs, truthRows } = await writeFiles(chain, days, truth, archive);
    step(`${transactions} transactions (${failed} reverted), ${logs} logs, ${truthRows} values of the truth`);
    return node;
  } catch (error) {
    await node.stop();
    throw error;
  }
}
