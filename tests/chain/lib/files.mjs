// The files of a chain.

import { createWriteStream, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { finished } from 'node:stream/promises';

import { CHAIN_ID } from './node.mjs';
import { date, hex } from './units.mjs';

const DAY = 86400;
const LOG_BLOCKS = 500;
const BLOCKS = 250;

/** Writes lines from a generator. Returns their number. */
async function writeLines(file, lines) {
  const stream = createWriteStream(file);
  let count = 0;
  for await (const line of lines) {
    stream.write(`${line}\n`);
    count++;
  }
  stream.end();
  await finished(stream);
  return count;
}

/** All logs, as the node gives them. */
async function* logs({ node }) {
  for (let from = 0; from <= node.head; from += LOG_BLOCKS) {
    const range = { fromBlock: hex(from), toBlock: hex(Math.min(node.head, from + LOG_BLOCKS - 1)) };
    for (const log of await node.rpc('eth_getLogs', [range])) yield JSON.stringify(log);
  }
}

/** Reads all blocks. Returns them, their transactions, and the status of each transaction by hash. */
async function readBlocks({ node, options }, days) {
  const dayOfBlock = new Map(days.map(({ day, block }) => [block, day]));
  const withTransactions = new Set(node.sent.map(({ block }) => block));
  const blocks = [];
  const transactions = [];
  const statuses = new Map();
  for (let from = 0; from <= node.head; from += BLOCKS) {
    const numbers = Array.from({ length: Math.min(BLOCKS, node.head - from + 1) }, (_, i) => from + i);
    const answers = await node.batch(numbers.map((number) => ['eth_getBlockByNumber', [hex(number), true]]));
    const mined = numbers.filter((number) => withTransactions.has(number));
    const receipts = await node.batch(mined.map((number) => ['eth_getBlockReceipts', [hex(number)]]));
    for (const { transactionHash, status } of receipts.flat()) statuses.set(transactionHash, parseInt(status, 16));
    for (const block of answers) {
      const number = parseInt(block.number, 16);
      const row = { number, timestamp: parseInt(block.timestamp, 16), hash: block.hash, transactions: block.transactions.length };
      if (dayOfBlock.has(number)) {
        row.firstOfDay = dayOfBlock.get(number);
        row.date = date(options.start + row.firstOfDay * DAY);
      }
      blocks.push(row);
      for (const { hash, from, to, transactionIndex, value, input } of block.transactions) {
        const index = parseInt(transactionIndex, 16);
        const status = statuses.get(hash);
        transactions.push({ hash, from, to, block: number, index, status, value: BigInt(value).toString(), selector: input.slice(0, 10) });
      }
    }
  }
  return { blocks, transactions, statuses };
}

/** Counts the transactions by type: [succeeded, reverted]. */
function countTypes(sent, statuses) {
  const counts = {};
  for (const { type, hash } of sent) {
    const count = (counts[type.replace(/\(\d+\)/, '')] ??= [0, 0]);
    count[statuses.get(hash) ? 0 : 1]++;
  }
  return counts;
}

/** The pipeline's configuration for this chain. */
function configuration({ addresses, firstBlocks }) {
  const chain = ([key, address], { block, time }) => {
    return `{ ${key} = "${address.toLowerCase()}", first_block = ${block}, first_day = "${date(time)}" }`;
  };
  const lines = ['[chain]', `chain_id = ${CHAIN_ID}`, `wrapped_ether = "${addresses.tokens.WETH.toLowerCase()}"`];
  if (addresses.multicall3) lines.push(`multicall = "${addresses.multicall3.toLowerCase()}"`);
  const add = (name, kind, address, first) => {
    lines.push('', '[[protocols]]', `name = "${name}"`, `kind = "${kind}"`, `chain = ${chain(address, first)}`);
  };
  add('aave-v2-eth', 'aave-v2', ['addresses_provider', addresses.addressesProvider], firstBlocks.aave);
  if (firstBlocks.compound) add('compound-v2-eth', 'compound-v2', ['comptroller', addresses.comptroller], firstBlocks.compound);
  return `${lines.join('\n')}\n`;
}

/** Writes all files, and returns a summary. */
export async function writeFiles(chain, days, truth, archive) {
  const { addresses, node, options, proxies } = chain;
  mkdirSync(options.out, { recursive: true });
  const file = (name) => path.join(options.out, name);
  const json = (name, value) => writeFileSync(file(name), JSON.stringify(value, null, 1));
  const csv = (name, header, rows) => writeLines(file(name), [header, ...rows]);

  const logCount = await writeLines(file('logs.jsonl'), logs(chain));
  const { blocks, transactions, statuses } = await readBlocks(chain, days);
  await writeLines(file('blocks.jsonl'), blocks.map((block) => JSON.stringify(block)));
  await writeLines(file('transactions.jsonl'), transactions.map((transaction) => JSON.stringify(transaction)));
  const actions = node.sent.map(({ block, hash, type, user }) => [block, hash, type, user, statuses.get(hash)].join());
  await csv('actions.csv', 'block,hash,type,user,status', actions);
  await csv('truth.csv', 'day,block,timestamp,user,key,value', truth.rows);
  await csv('prices.csv', 'day,block,protocol,asset,price', truth.prices);
  const owner = (address) => proxies.find(({ at }) => at === address)?.owner ?? '';
  await csv('users.csv', 'address,kind,owner', truth.users.map(([address, kind]) => `${address},${kind},${owner(address)}`));
  json('addresses.json', addresses);
  json('days.json', days);
  writeFileSync(file('config.toml'), configuration(chain));

  const { out, port, ...kept } = options;
  const summary = {
    options: kept,
    node: await node.rpc('web3_clientVersion'),
    flags: node.flags.filter((flag) => flag !== node.cache && flag !== String(node.port)),
    blocks: node.head,
    transactions: node.sent.length,
    failed: [...statuses.values()].filter((status) => !status).length,
    logs: logCount,
    truthRows: truth.rows.length,
    revertedCalls: truth.reverted,
    archive,
    users: truth.users.length,
    lastBlockHash: (await node.rpc('eth_getBlockByNumber', ['latest', false])).hash,
    types: countTypes(node.sent, statuses),
  };
  json('meta.json', summary);
  return summary;
}
