// What the administrator, oracles and other outside forces change.

import { liquidity, poolCall, strategyArguments } from './aave.mjs';
import { marketCall, marketPrice } from './compound.mjs';
import { encode } from './contracts.mjs';
import { ray, units } from './units.mjs';

const DOLLARS = ['USDC', 'DAI', 'USDT'];

/** Moves all prices at random. `factors` are additional ones, by token, or by USD for all that are worth a dollar. */
export async function movePrices(chain, factors = {}) {
  const { gauss, share } = chain.random;
  const eth = Math.exp(0.02 * gauss());
  for (const reserve of chain.aave.reserves) {
    if (reserve.name === 'WETH') continue;
    const price = share(reserve.price, 1, 1);
    const move = DOLLARS.includes(reserve.name)
      ? (factors.USD ?? 1) * eth * Math.exp(0.002 * gauss())
      : Math.exp(0.025 * gauss());
    await setPrice(chain, reserve, price * BigInt(Math.round(1e6 * (factors[reserve.name] ?? 1) * move)) / 1000000n);
  }
}

async function setPrice(chain, reserve, price) {
  const { priceOracle, compoundPriceOracle } = chain.addresses;
  reserve.price = price;
  await chain.administer('PriceOracle', priceOracle, 'setAssetPrice', [reserve.asset, price], 'price');
  for (const market of chain.compound?.markets ?? []) {
    if (market.underlying !== reserve.name) continue;
    const values = [market.at, marketPrice(chain, market)];
    await chain.administer('CompoundPriceOracleMock', compoundPriceOracle, 'setUnderlyingPrice', values, 'price');
  }
}

/** The changes in Aave: [share of the days after which it is made, change]. */
function aaveChanges(chain) {
  const { addresses, node, payer } = chain;
  const { USDC, DAI, LINK, USDT, WBTC } = chain.aave.byName;
  const configure = (method, ...values) => {
    return chain.administer('LendingPoolConfigurator', addresses.configurator, method, values, `conf.${method}`);
  };
  return [
    [0.2, () => configure('configureReserveAsCollateral', LINK.asset, 6500, 7000, 11500)],
    [0.3, () => configure('setReserveFactor', USDC.asset, 2000)],
    [0.45, () => configure('configureReserveAsCollateral', DAI.asset, 7700, 8200, 10400)],
    [0.5, async () => {
      const values = strategyArguments(chain, [0.5, 0.01, 0.06, 1.5, 0.1, 1.5]);
      const strategy = await chain.deploy('DefaultReserveInterestRateStrategy', values);
      await configure('setReserveInterestRateStrategyAddress', LINK.asset, strategy);
    }],
    [0.6, () => {
      USDT.collateral = [6000, 6500, 10800];
      return configure('configureReserveAsCollateral', USDT.asset, ...USDT.collateral);
    }],
    [0.65, () => configure('freezeReserve', WBTC.asset)],
    [0.75, () => configure('unfreezeReserve', WBTC.asset)],
    [0.8, () => configure('configureReserveAsCollateral', WBTC.asset, 0, 7500, 11000)],
    [0.85, () => {
      const values = [DAI.asset, ray(0.06)];
      return chain.administer('LendingRateOracle', addresses.lendingRateOracle, 'setMarketBorrowRate', values, 'market rate');
    }],
    [0.9, async () => {
      await useUp(chain, USDC, () => configure('setReserveFactor', USDC.asset, 5000));
      await rebalance(chain, USDC);
    }],
    [0.95, () => configure('setReserveFactor', USDC.asset, 1000)],
    [0.4, () => {
      const data = encode('MintableERC20', 'transfer', [DAI.aToken, units(5000, 18)]);
      return node.send({ from: payer, to: DAI.asset, data }, 'donate to aToken');
    }],
  ];
}

/** The whale borrows nearly all: stable loans can be rebalanced from a utilisation of 95 % on, at a low liquidity rate. */
async function useUp(chain, reserve, setReserveFactor) {
  const { addresses, node, whale } = chain;
  const most = await liquidity(chain, reserve);
  const data = await chain.readOne('AaveProtocolDataProvider', addresses.dataProvider, 'getReserveData', [reserve.asset]);
  const total = data.availableLiquidity + data.totalStableDebt + data.totalVariableDebt;
  await setReserveFactor();
  const amount = most - total * 35n / 1000n;
  await node.send(poolCall(chain, whale, 'borrow', [reserve.asset, amount, 2, 0, whale]), 'borrowVar');
}

/** Rebalances all stable loans of a reserve. */
async function rebalance(chain, { asset }) {
  const { actors, addresses, node, payer } = chain;
  const data = await chain.read(actors.map((account) => {
    return ['AaveProtocolDataProvider', addresses.dataProvider, 'getUserReserveData', [asset, account]];
  }));
  for (const [i, account] of actors.entries()) {
    const stableDebt = data[i][1];
    if (stableDebt === 0n) continue;
    await node.send(poolCall(chain, payer, 'rebalanceStableBorrowRate', [asset, account]), 'rebalance');
  }
}

/** The changes in Compound, as in `aaveChanges`. */
function compoundChanges(chain) {
  const { node, options, payer } = chain;
  const { comptroller } = chain.addresses;
  const { cETH, cUSDC, cDAI, cLINK } = chain.compound.byName;
  const setCollateralFactor = (market, factor) => {
    const values = [market.at, units(factor, 18)];
    return chain.administer('Comptroller', comptroller, '_setCollateralFactor', values, 'c.collateralFactor');
  };
  const donate = (market, amount) => {
    const data = encode('MintableERC20', 'transfer', [market.at, amount]);
    return node.send({ from: payer, to: chain.aave.byName[market.underlying].asset, data }, 'c.donate ERC-20');
  };
  return [
    [0.25, () => setCollateralFactor(cLINK, 0.65)],
    [0.35, () => chain.administer('CErc20', cUSDC.at, '_setReserveFactor', [units(0.12, 18)], 'c.reserveFactor')],
    [0.55, () => setCollateralFactor(cDAI, 0.7)],
    [0.5, async () => {
      const rates = await chain.deploy('JumpRateModel', [12.6, 29.4, 52, 0.75].map((rate) => units(rate, 18)));
      await chain.administer('CErc20Delegate', cDAI.at, '_setInterestRateModel', [rates], 'c.rateModel');
    }],
    [0.7, async () => {
      for (const { abi, at } of [cUSDC, cDAI]) {
        const [reserves] = await chain.readOne(abi, at, 'totalReserves');
        if (reserves > 0n) await chain.administer(abi, at, '_reduceReserves', [reserves / 2n], 'c.reduceReserves');
      }
    }],
    [0.6, () => node.send(marketCall(payer, cDAI, '_addReserves', [units(1000, 18)]), 'c.addReserves')],
    [0.4, () => donate(cUSDC, 777000000n)],
    [0.45, () => donate(cLINK, units(25, 18))],
    [0.8, async () => {
      if (!options.forcesEth) return;
      const to = await chain.deploy('SelfdestructTransfer');
      const data = encode('SelfdestructTransfer', 'destroyAndTransfer', [cETH.at]);
      await node.send({ from: payer, to, value: units(3, 18), data }, 'c.force ETH');
    }],
  ];
}

const changes = (chain) => [...aaveChanges(chain), ...(chain.compound ? compoundChanges(chain) : [])];
const dayOf = (chain, share) => Math.round(share * chain.options.days);

/** Makes the changes of a day. */
export async function change(chain, day) {
  for (const [share, make] of changes(chain)) {
    if (dayOf(chain, share) === day) await make();
  }
}

/** The shares of the days after which something changes, with or without Compound. */
const SHARES = [0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];

/** Whether something changes on a day. */
export const hasChanges = (chain, day) => SHARES.some((share) => dayOf(chain, share) === day);

/** The crashes by day: factors of prices. */
export function crashes(chain) {
  return {
    [dayOf(chain, 0.35)]: { LINK: 0.62, WBTC: 0.7 },
    [dayOf(chain, 0.55)]: { USD: 1.4 },
    [dayOf(chain, 0.72)]: { LINK: 0.6, WBTC: 0.75 },
  };
}
