// The days of a chain.

import { aaveAction } from './aave_actions.mjs';
import { change, crashes, hasChanges, movePrices } from './changes.mjs';
import { compoundAction } from './compound_actions.mjs';
import { sendDeployment } from './contracts.mjs';
import { liquidate } from './liquidations.mjs';
import { proxyAction } from './proxy_actions.mjs';

const DAY = 86400;

/** Sends random actions. */
async function act(chain, count) {
  const { node, proxies, random, wallets } = chain;
  for (let i = 0; i < count; i++) {
    const x = random.next();
    let action;
    if (proxies.length && x < 0.12) {
      action = await proxyAction(chain, random.pick(proxies));
    } else {
      const wallet = random.pick(wallets);
      action = await (!chain.compound || x < 0.62 ? aaveAction : compoundAction)(chain, wallet);
    }
    if (action) await node.send(...action);
  }
}

/** Sends the deployment of Multicall3, by an account of its own: the addresses of the other contracts stay the same. */
export async function deployMulticall3(chain) {
  chain.addresses.multicall3 = await sendDeployment(chain.node, chain.multicallDeployer, 'Multicall3');
}

/** The times of a day's blocks with transactions. */
function blockTimes(random, midnight, first, [fewest, most]) {
  const count = random.integer(fewest, most);
  const times = new Set();
  while (times.size < count) times.add(first + 12 * random.integer(50, Math.floor((86300 - first + midnight) / 12)));
  const sorted = [...times].sort((a, b) => a - b);
  if (random.chance(0.35)) sorted.push(midnight + DAY - 1);
  return sorted;
}

/** The rest of a day after its first block. `perDay` is its number of actions. */
async function liveRest(chain, day, midnight, first, perDay) {
  const { node, options, random } = chain;
  const times = blockTimes(random, midnight, first, options.eventBlocks);
  const changing = Math.min(1, times.length - 1);
  const crash = crashes(chain)[day];
  let actions = perDay;
  let empty = options.fill;
  for (const [i, time] of times.entries()) {
    const filled = Math.max(0, Math.min(Math.round(empty / (times.length - i)), node.fitsBefore(time)));
    await node.mineEmpty(filled);
    empty -= filled;
    if (time <= node.now) continue;
    if (i === changing) await change(chain, day);
    if (crash && i === changing) await movePrices(chain, crash);
    else if (random.chance(0.35)) await movePrices(chain);
    if (i > 0) await liquidate(chain);
    const count = actionsOfBlock(chain, day, perDay, actions, times.length, i);
    actions -= count;
    await act(chain, Math.max(0, count));
    // Deployments by changes have blocks of their own.
    if (time > node.now) await node.mine(time);
  }
}

/** The number of actions in a block, of those that are left. */
function actionsOfBlock(chain, day, perDay, left, blocks, i) {
  const { options, random } = chain;
  if (day >= options.warm) {
    const each = perDay / blocks;
    return (random.chance(each % 1) ? 1 : 0) + Math.floor(each);
  }
  if (i === blocks - 1) return Math.max(1, Math.round(left));
  return Math.round((left / (blocks - i)) * random.between(0.3, 1.7));
}

/** Lives all days. Calls `atSnapshot` after the first block of each. Returns [{day, timestamp, block, quiet}]. */
export async function live(chain, atSnapshot) {
  const { node, options, random } = chain;
  const days = [];
  for (let day = 0; day <= options.days; day++) {
    const isWarm = day < options.warm;
    const perDay = options.wallets * (isWarm ? options.actions : options.later);
    const midnight = options.start + day * DAY;
    const first = midnight + random.pick([11, 11, 11, 11, 11, 0, 23, 35]);
    const mayBeQuiet = day > 1 && !(day in crashes(chain)) && !hasChanges(chain, day);
    const quiet = mayBeQuiet && random.chance(0.1);
    if (!quiet && random.chance(0.5)) {
      if (random.chance(0.5)) await movePrices(chain);
      const acts = isWarm || random.chance(Math.min(1, perDay / 4));
      await act(chain, acts ? random.integer(1, Math.max(1, Math.round(perDay / 6))) : 0);
    }
    if (day > 0 && day === options.multicallDay) await deployMulticall3(chain);
    days.push({ day, timestamp: first, block: await node.mine(first), quiet });
    await atSnapshot(days[day]);
    if (day === options.days) break;
    if (quiet) await node.mineEmpty(options.fill);
    else await liveRest(chain, day, midnight, first, perDay);
  }
  return days;
}

/** Mines empty blocks after the last day: the first one ends it, and the others make it final. */
export async function mineAfter(chain) {
  const { node, options } = chain;
  if (options.blocksAfter === 0) return;
  await node.mine(options.start + (options.days + 1) * DAY + 11);
  await node.mineEmpty(options.blocksAfter - 1);
}
