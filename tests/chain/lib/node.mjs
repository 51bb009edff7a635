// An Ethereum node (anvil) that mines when it is told to, with exact block times.

import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { anvil } from './paths.mjs';
import { hex } from './units.mjs';

/** The chain's id. Signed transactions depend on it. */
export const CHAIN_ID = 1;
/** The number of seconds between empty blocks. */
const BLOCK_SECONDS = 12;
/** The gas limit of transactions, and of those that deploy a contract. */
const GAS = '0x7a1200';
export const DEPLOYMENT_GAS = '0x1312d00';

/** Returns a port of the loopback interface that is free. */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

export class Node {
  /** The number of the newest block. */
  head = 0;
  /** The mined transactions: {hash, type, user, block}. */
  sent = [];
  #queue = [];
  #nonces = new Map();
  #id = 0;

  /** Starts a node whose first block is at a time, with accounts that have ETH. */
  static async start({ port, accounts, time, hasArchive, folder }) {
    const node = new Node();
    node.port = port || (await freePort());
    node.url = `http://127.0.0.1:${node.port}`;
    node.now = time;
    node.cache = path.join(folder, 'anvil-cache');
    if (await node.rpc('web3_clientVersion').then(() => true, () => false)) throw new Error(`port ${node.port} is taken`);
    node.flags = [
      '--host', '127.0.0.1', '--port', String(node.port), '--chain-id', String(CHAIN_ID), '--hardfork', 'london',
      // By default, transactions are ordered by fee.
      '--no-mining', '--order', 'fifo',
      '--accounts', String(accounts), '--balance', '10000000', '--timestamp', String(time), '--gas-limit', '1000000000',
      '--block-base-fee-per-gas', '0', '--gas-price', '0', '--disable-min-priority-fee',
      // Of more than about 500 states, it writes one file of 6 MB per state.
      ...(hasArchive ? ['--max-persisted-states', '10000000'] : ['--prune-history', '32']),
      '--transaction-block-keeper', '100000000', '--no-request-size-limit', '--cache-path', node.cache, '--silent',
    ];
    node.process = spawn(anvil, node.flags, { stdio: ['ignore', 'ignore', 'inherit'] });
    node.ended = new Promise((resolve) => {
      node.process.on('exit', resolve);
      node.process.on('error', resolve);
    });
    try {
      await node.#ready();
      await node.rpc('anvil_setBlockTimestampInterval', [BLOCK_SECONDS]);
    } catch (error) {
      await node.stop();
      throw error;
    }
    return node;
  }

  async #ready() {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.rpc('eth_chainId');
      } catch (error) {
        if (attempt > 400 || this.process.exitCode !== null || !this.process.pid) throw error;
        await sleep(50);
      }
    }
  }

  /** Ends the node and removes its files, which it would leave behind. */
  async stop() {
    if (this.process.pid && this.process.exitCode === null) this.process.kill('SIGINT');
    const kill = setTimeout(() => this.process.kill('SIGKILL'), 10000);
    await this.ended;
    clearTimeout(kill);
    rmSync(this.cache, { recursive: true, force: true });
  }

  async #post(body) {
    const headers = { 'content-type': 'application/json' };
    return (await fetch(this.url, { method: 'POST', headers, body: JSON.stringify(body) })).json();
  }

  /** Returns the result of a call of JSON-RPC. */
  async rpc(method, params = []) {
    const answer = await this.#post({ jsonrpc: '2.0', id: ++this.#id, method, params });
    if (answer.error) throw new Error(`${method}: ${JSON.stringify(answer.error)}`);
    return answer.result;
  }

  /** Returns the results of [[method, params]], with {error} for one that failed. */
  async batch(requests, size = 250) {
    const results = [];
    for (let start = 0; start < requests.length; start += size) {
      const part = requests.slice(start, start + size);
      const answers = await this.#post(part.map(([method, params], id) => ({ jsonrpc: '2.0', id, method, params })));
      answers.sort((a, b) => a.id - b.id);
      for (const answer of answers) results.push(answer.error ? { error: answer.error } : answer.result);
    }
    return results;
  }

  /** Sends a transaction, to be mined with the next block. Returns its nonce. */
  async send({ from, to, data, value = 0n, gas = GAS }, type, user = from) {
    const nonce = this.#nonces.get(from) ?? 0;
    this.#nonces.set(from, nonce + 1);
    const transaction = { from, to, data, value: hex(value), gas, gasPrice: '0x0', nonce: hex(nonce) };
    const hash = await this.rpc('eth_sendTransaction', [transaction]);
    this.#queue.push({ hash, type, user, block: 0 });
    return nonce;
  }

  /** Mines a block at a time. Returns its number. */
  async mine(time) {
    if (time <= this.now) throw new Error(`the time ${time} is not after ${this.now}`);
    await this.rpc('evm_setNextBlockTimestamp', [time]);
    await this.rpc('evm_mine');
    this.head++;
    this.now = time;
    for (const sent of this.#queue) {
      sent.block = this.head;
      this.sent.push(sent);
    }
    this.#queue = [];
    return this.head;
  }

  /** Mines the next block. */
  mineNext() {
    return this.mine(this.now + BLOCK_SECONDS);
  }

  /** Mines the next block. Fails if a transaction in it failed. */
  async mineChecked() {
    const queue = this.#queue;
    await this.mineNext();
    for (const { hash, type } of queue) {
      const receipt = await this.rpc('eth_getTransactionReceipt', [hash]);
      if (receipt.status !== '0x1') throw new Error(`failed: ${type}`);
    }
  }

  /** Mines empty blocks. */
  async mineEmpty(count) {
    if (count <= 0) return;
    await this.rpc('anvil_mine', [hex(count)]);
    this.head += count;
    this.now += BLOCK_SECONDS * count;
  }

  /** The number of empty blocks that fit before a time. */
  fitsBefore(time) {
    return Math.floor((time - this.now) / BLOCK_SECONDS) - 1;
  }
}
