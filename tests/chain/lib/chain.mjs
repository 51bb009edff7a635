// A chain that is being built: its node, its accounts, its contracts.

import { getAddress } from 'ethers';

import { deploy, encode, read, readOne } from './contracts.mjs';
import { Node } from './node.mjs';
import { random } from './random.mjs';

/** The number of accounts that are not wallets. */
const SPECIAL_ACCOUNTS = 8;
const DAY = 86400;

export class Chain {
  /** The addresses of the contracts by name. */
  addresses = {};
  /** The wallet contracts: {at, owner}. */
  proxies = [];
  /** The blocks in which Aave's pool and Compound's Comptroller were created. */
  firstBlocks = {};

  static async start(options) {
    const chain = new Chain();
    chain.options = options;
    chain.random = random(options.seed);
    chain.node = await Node.start({
      port: options.port,
      accounts: options.wallets + SPECIAL_ACCOUNTS,
      time: options.start - DAY,
      hasArchive: options.hasArchive,
      folder: options.out,
    });
    const accounts = (await chain.node.rpc('eth_accounts')).map(getAddress);
    [chain.administrator, chain.whale] = accounts;
    chain.liquidators = accounts.slice(2, 5);
    [chain.payer, chain.treasury, chain.multicallDeployer] = accounts.slice(5, SPECIAL_ACCOUNTS);
    chain.wallets = accounts.slice(SPECIAL_ACCOUNTS);
    return chain;
  }

  /** The addresses that act and borrow: wallets and wallet contracts. */
  get actors() {
    return [...this.wallets, ...this.proxies.map((proxy) => proxy.at)];
  }

  /** Deploys a contract, and names its address. */
  async deploy(name, values, { libraries, label } = {}) {
    const address = await deploy(this.node, this.administrator, name, values, libraries);
    if (label) this.addresses[label] = address;
    return address;
  }

  /** Sends a call by the administrator. */
  administer(contract, to, method, values, type = `admin ${method}`) {
    return this.node.send({ from: this.administrator, to, data: encode(contract, method, values) }, type);
  }

  read(calls) {
    return read(this.node, calls);
  }

  readOne(...call) {
    return readOne(this.node, ...call);
  }
}
