// What the contracts themselves say about every user, by calls at the first block of each day.

import { AbiCoder } from 'ethers';

import { encode } from './contracts.mjs';

/** The number of calls in one call of Multicall. */
const CALLS = 600;
const coder = AbiCoder.defaultAbiCoder();
const ACCOUNT_DATA = ['collateralETH', 'debtETH', 'availableBorrowsETH', 'currentLiquidationThreshold', 'ltv', 'healthFactor'];
const MARKET_DATA = ['totalReserves', 'totalSupply', 'getCash', 'totalBorrows', 'borrowIndex', 'borrowRatePerBlock', 'exchangeRateStored'];

/** Returns the 32-byte words of a call's result. */
function words(result) {
  const all = [];
  for (let i = 2; i + 64 <= result.length; i += 64) all.push(BigInt(`0x${result.slice(i, i + 64)}`));
  return all;
}

/** Returns the addresses that are asked for: [address, kind]. */
export function users(chain) {
  const { addresses, wallets, proxies, liquidators } = chain;
  return [
    ...wallets.map((address) => [address, 'wallet']),
    ...proxies.map(({ at }) => [at, 'proxy']),
    ...liquidators.map((address) => [address, 'liquidator']),
    [chain.whale, 'whale'],
    [chain.payer, 'payer'],
    [chain.treasury, 'treasury'],
    [addresses.wethGateway, 'gateway'],
    [addresses.flashLoanReceiver, 'flash'],
    ...(chain.compound?.markets ?? []).map(({ at }) => [at, 'cToken']),
  ];
}

export class Truth {
  /** The rows of truth.csv and prices.csv. */
  rows = [];
  prices = [];
  /** The number of calls that reverted. */
  reverted = 0;

  constructor(chain) {
    this.chain = chain;
    this.users = users(chain);
  }

  /** Adds what the contracts say at a day's first block, which may be the latest one. */
  async add({ day, block, timestamp }, at = 'latest') {
    const put = (user, key, value) => this.rows.push(`${day},${block},${timestamp},${user},${key},${value}`);
    const putPrice = (protocol, asset, value) => this.prices.push(`${day},${block},${protocol},${asset},${value}`);
    const questions = this.#questions(put, putPrice);
    // A call that accrues interest changes the stored values of all calls after it.
    const stored = questions.filter((question) => question.data && !question.accrues);
    const accruing = questions.filter((question) => question.accrues);
    const answers = new Map();
    for (const group of [stored, accruing]) {
      const results = await this.#call(group, at);
      group.forEach((question, i) => answers.set(question, results[i]));
    }
    for (const question of questions) {
      if (!question.data) answers.set(question, BigInt(await this.chain.node.rpc('eth_getBalance', [question.to, at])));
      question.use(answers.get(question));
    }
  }

  /** Returns the words of the results of calls, with null for one that reverted. */
  async #call(calls, block) {
    const all = [];
    for (let start = 0; start < calls.length; start += CALLS) {
      const part = calls.slice(start, start + CALLS);
      const data = encode('Multicall', 'aggregate', [part.map(({ to }) => to), part.map((call) => call.data)]);
      const request = { to: this.chain.addresses.multicall, data, gas: '0x3b9aca00' };
      const answer = await this.chain.node.rpc('eth_call', [request, block]);
      const [succeeded, results] = coder.decode(['bool[]', 'bytes[]'], answer);
      for (let i = 0; i < part.length; i++) {
        if (!succeeded[i]) this.reverted++;
        all.push(succeeded[i] ? words(results[i]) : null);
      }
    }
    return all;
  }

  /** Returns all questions: {to, data, accrues, use}; without data, for a balance of ETH. */
  #questions(put, putPrice) {
    const { addresses, aave, compound } = this.chain;
    const questions = [];
    const ask = (contract, to, method, values, use) => questions.push({ to, data: encode(contract, method, values), use });
    for (const { name, asset } of aave.reserves) {
      ask('PriceOracle', addresses.priceOracle, 'getAssetPrice', [asset], ([value]) => putPrice('aave', name, value));
    }
    for (const { name, asset } of aave.reserves) {
      for (const key of ['normalizedIncome', 'normalizedVariableDebt']) {
        const method = `getReserve${key[0].toUpperCase()}${key.slice(1)}`;
        ask('LendingPool', addresses.lendingPool, method, [asset], ([value]) => put('market', `aave.${name}.${key}`, value));
      }
    }
    if (compound) questions.push(...this.#marketQuestions(put, putPrice));
    for (const [user] of this.users) {
      questions.push(...this.#aaveQuestions(user, put));
      if (compound) questions.push(...this.#compoundQuestions(user, put));
    }
    return questions;
  }

  /** What Compound's markets say. */
  #marketQuestions(put, putPrice) {
    const { addresses, compound } = this.chain;
    return compound.markets.flatMap(({ name, at: to }) => {
      const key = (suffix) => `compound.${name}.${suffix}`;
      const price = encode('CompoundPriceOracleMock', 'getUnderlyingPrice', [to]);
      return [
        { to: addresses.compoundPriceOracle, data: price, use: ([value]) => putPrice('compound', name, value) },
        ...MARKET_DATA.map((method) => {
          return { to, data: encode('CErc20', method), use: (result) => put('market', key(method), result?.[0] ?? 'revert') };
        }),
        {
          to,
          data: encode('CErc20', 'exchangeRateCurrent'),
          accrues: true,
          use: ([value]) => put('market', key('exchangeRateCurrent'), value),
        },
        { to, use: (balance) => put('market', key('ethBalance'), balance) },
      ];
    });
  }

  /** What Aave says about a user. */
  #aaveQuestions(user, put) {
    const { addresses, aave } = this.chain;
    return [
      {
        to: addresses.lendingPool,
        data: encode('LendingPool', 'getUserAccountData', [user]),
        use: (values) => ACCOUNT_DATA.forEach((key, i) => put(user, `aave.${key}`, values[i])),
      },
      ...aave.reserves.map(({ name, asset }) => ({
        to: addresses.dataProvider,
        data: encode('AaveProtocolDataProvider', 'getUserReserveData', [asset, user]),
        use: ([aToken, stableDebt, variableDebt, , , , , , usageAsCollateral]) => {
          const values = { aToken, stableDebt, variableDebt, usageAsCollateral };
          for (const [key, value] of Object.entries(values)) put(user, `aave.${name}.${key}`, value);
        },
      })),
    ];
  }

  /** What Compound says about a user. */
  #compoundQuestions(user, put) {
    const { addresses, compound } = this.chain;
    const { comptroller } = addresses;
    return [
      {
        to: comptroller,
        data: encode('Comptroller', 'getAccountLiquidity', [user]),
        use: (values) => {
          ['liquidityError', 'liquidity', 'shortfall'].forEach((key, i) => put(user, `compound.${key}`, values[i]));
        },
      },
      ...compound.markets.flatMap(({ name, at: to }) => [
        {
          to,
          data: encode('CErc20', 'getAccountSnapshot', [user]),
          use: ([, cTokens, borrowStored, exchangeRateStored]) => {
            const values = { cTokens, borrowStored, exchangeRateStored };
            for (const [key, value] of Object.entries(values)) put(user, `compound.${name}.${key}`, value);
          },
        },
        {
          to: comptroller,
          data: encode('Comptroller', 'checkMembership', [user, to]),
          use: ([value]) => put(user, `compound.${name}.member`, value),
        },
        {
          to,
          data: encode('CErc20', 'borrowBalanceCurrent', [user]),
          accrues: true,
          use: ([value]) => put(user, `compound.${name}.borrowCurrent`, value),
        },
      ]),
    ];
  }
}
