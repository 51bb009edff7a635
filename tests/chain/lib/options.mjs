// The options of `build.mjs` and `serve.mjs`.

import path from 'node:path';
import { parseArgs } from 'node:util';

export const USAGE = `Options:
  --out DIR               folder for the chain's files (default: out)
  --port N                port of the node (default: a free one)
  --days N                number of days (20)
  --wallets N             number of wallets (40)
  --seed N                seed of all random numbers (1)
  --start DAY             first day (2021-05-01); the contracts are deployed on the day before
  --actions X             mean number of actions per wallet and day (1.2)
  --warm D --later X      from day D on, X actions per wallet and day instead
  --event-blocks A,B      number of blocks with transactions per day (4,7)
  --fill N                number of empty blocks per day (8)
  --base-rate X           added to Aave's interest rates, 0.04 = 4 % a year (0)
  --blocks-after N        number of empty blocks after the last day, the first of them on the next day (70)
  --multicall-day D       day on which Multicall3 is deployed: 0 (with the other contracts), or none (0)
  --no-archive            keep only the newest states, for chains of more than 500 blocks
  --no-compound           Aave only
  --no-force-eth          no ETH is forced into cETH`;

const STRINGS = {
  out: 'out', port: '0', days: '20', wallets: '40', seed: '1', start: '2021-05-01', actions: '1.2', warm: '1e9', later: '',
  'event-blocks': '4,7', fill: '8', 'base-rate': '0', 'blocks-after': '70', 'multicall-day': '0',
};
const FLAGS = ['no-archive', 'no-compound', 'no-force-eth', 'help'];

/** Parses arguments. Prints the usage and exits if they ask for it or are wrong. */
export function parseOptions(args) {
  let values;
  try {
    const strings = Object.entries(STRINGS).map(([name, value]) => [name, { type: 'string', default: value }]);
    const flags = FLAGS.map((name) => [name, { type: 'boolean', default: false }]);
    ({ values } = parseArgs({ args, options: Object.fromEntries([...strings, ...flags]) }));
  } catch (error) {
    console.error(`${error.message}\n${USAGE}`);
    process.exit(2);
  }
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  const number = (name) => {
    const value = Number(values[name]);
    if (values[name] === '' || !(value >= 0)) {
      console.error(`--${name} must be a number: ${values[name]}`);
      process.exit(2);
    }
    return value;
  };
  const actions = number('actions');
  return {
    out: path.resolve(values.out),
    port: number('port'),
    days: number('days'),
    wallets: number('wallets'),
    seed: number('seed'),
    start: Date.parse(`${values.start}T00:00:00Z`) / 1000,
    actions,
    warm: number('warm'),
    later: values.later === '' ? actions : number('later'),
    eventBlocks: values['event-blocks'].split(',').map(Number),
    fill: number('fill'),
    baseRate: number('base-rate'),
    blocksAfter: number('blocks-after'),
    multicallDay: values['multicall-day'] === 'none' ? null : number('multicall-day'),
    hasArchive: !values['no-archive'],
    hasCompound: !values['no-compound'],
    forcesEth: !values['no-force-eth'],
  };
}
