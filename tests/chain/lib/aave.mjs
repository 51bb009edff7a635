// Aave v2: its deployment, and transactions to its pool.

import { encode } from './contracts.mjs';
import { ZERO_ADDRESS, ray, units } from './units.mjs';

// `price` is in ETH. `collateral` is loan-to-value, liquidation threshold and bonus in basis points. `rates` is optimal
// utilisation, base rate, the two slopes of variable and of stable loans. `funds` is what a wallet has at first.
const RESERVES = [
  { name: 'WETH', decimals: 18, price: 1, collateral: [8000, 8250, 10500], hasStableLoans: false, rates: [0.65, 0, 0.08, 1, 0.1, 1], reserveFactor: 1000, marketRate: 0.03, funds: 120 },
  { name: 'USDC', decimals: 6, price: 1 / 2800, collateral: [8000, 8500, 10500], hasStableLoans: true, rates: [0.9, 0, 0.04, 0.6, 0.02, 0.6], reserveFactor: 1000, marketRate: 0.039, funds: 150000 },
  { name: 'WBTC', decimals: 8, price: 19, collateral: [7000, 7500, 11000], hasStableLoans: false, rates: [0.65, 0, 0.08, 1, 0.1, 1], reserveFactor: 2000, marketRate: 0.03, funds: 4 },
  { name: 'DAI', decimals: 18, price: 1 / 2810, collateral: [7500, 8000, 10500], hasStableLoans: true, rates: [0.8, 0, 0.04, 0.75, 0.02, 0.75], reserveFactor: 1000, marketRate: 0.039, funds: 150000 },
  { name: 'LINK', decimals: 18, price: 0.0125, collateral: [7000, 7500, 11000], hasStableLoans: false, rates: [0.45, 0, 0.07, 3, 0.1, 3], reserveFactor: 2000, marketRate: 0.03, funds: 8000 },
  // No collateral until a later day.
  { name: 'USDT', decimals: 6, price: 1 / 2805, collateral: null, hasStableLoans: true, rates: [0.9, 0, 0.04, 0.6, 0.02, 0.6], reserveFactor: 1000, marketRate: 0.035, funds: 90000 },
];

/** Returns the arguments of an interest rate strategy. */
export function strategyArguments(chain, rates) {
  const [optimal, base, ...slopes] = rates;
  return [chain.addresses.addressesProvider, ...[optimal, base + chain.options.baseRate, ...slopes].map(ray)];
}

/** Deploys the pool and what it needs. */
async function deployPool(chain) {
  const { node } = chain;
  const kind = 'LendingPoolAddressesProvider';
  const provider = await chain.deploy(kind, ['Aave genesis market'], { label: 'addressesProvider' });
  const set = (method, value) => chain.administer(kind, provider, method, [value]);
  await set('setPoolAdmin', chain.administrator);
  await set('setEmergencyAdmin', chain.administrator);

  const ReserveLogic = await chain.deploy('ReserveLogic');
  const GenericLogic = await chain.deploy('GenericLogic');
  const ValidationLogic = await chain.deploy('ValidationLogic', [], { libraries: { GenericLogic } });
  await set(
    'setLendingPoolImpl',
    await chain.deploy('LendingPool', [], { libraries: { ReserveLogic, ValidationLogic } }),
  );
  await node.mineChecked();
  [chain.addresses.lendingPool] = await chain.readOne(kind, provider, 'getLendingPool');
  chain.firstBlocks.aave = { block: node.head, time: node.now };

  await set('setLendingPoolConfiguratorImpl', await chain.deploy('LendingPoolConfigurator'));
  await node.mineChecked();
  [chain.addresses.configurator] = await chain.readOne(kind, provider, 'getLendingPoolConfigurator');

  const manager = await chain.deploy('LendingPoolCollateralManager');
  const oracle = await chain.deploy('PriceOracle', [], { label: 'priceOracle' });
  const rateOracle = await chain.deploy('LendingRateOracle', [], { label: 'lendingRateOracle' });
  await set('setLendingPoolCollateralManager', manager);
  await set('setPriceOracle', oracle);
  await set('setLendingRateOracle', rateOracle);
}

/** Deploys a token and its reserve. */
async function deployReserve(chain, specification) {
  const { addresses, node, options } = chain;
  const { name, decimals, collateral, hasStableLoans } = specification;
  const kind = name === 'WETH' ? 'WETH9Mocked' : 'MintableERC20';
  const asset = await chain.deploy(kind, name === 'WETH' ? [] : [name, name, decimals]);
  addresses.tokens[name] = asset;
  const price = units(specification.price, 18);
  const marketRate = ray(specification.marketRate + options.baseRate);
  await chain.administer('PriceOracle', addresses.priceOracle, 'setAssetPrice', [asset, price]);
  await chain.administer('LendingRateOracle', addresses.lendingRateOracle, 'setMarketBorrowRate', [asset, marketRate]);
  await node.mineChecked();

  const strategy = await chain.deploy('DefaultReserveInterestRateStrategy', strategyArguments(chain, specification.rates));
  const pool = addresses.lendingPool;
  const tokens = [
    await chain.deploy('AToken', [pool, asset, chain.treasury, `Aave interest bearing ${name}`, `a${name}`, ZERO_ADDRESS]),
    await chain.deploy('StableDebtToken', [pool, asset, `Aave stable debt bearing ${name}`, `stableDebt${name}`, ZERO_ADDRESS]),
    await chain.deploy('VariableDebtToken', [pool, asset, `Aave variable debt bearing ${name}`, `variableDebt${name}`, ZERO_ADDRESS]),
  ];
  const configure = (method, values) => {
    return chain.administer('LendingPoolConfigurator', addresses.configurator, method, values);
  };
  await configure('initReserve', [...tokens, decimals, strategy]);
  if (collateral) await configure('configureReserveAsCollateral', [asset, ...collateral]);
  await configure('enableBorrowingOnReserve', [asset, hasStableLoans]);
  await configure('setReserveFactor', [asset, specification.reserveFactor]);
  await node.mineChecked();

  const [reserve] = await chain.readOne('LendingPool', pool, 'getReserveData', [asset]);
  const { aTokenAddress: aToken, stableDebtTokenAddress: stableDebtToken, variableDebtTokenAddress: variableDebtToken } = reserve;
  addresses.reserves[name] = { asset, decimals, aToken, stableDebtToken, variableDebtToken };
  return { ...specification, kind, asset, price, aToken, stableDebtToken, variableDebtToken };
}

/** Deploys Aave v2. Returns its reserves. */
export async function deployAave(chain) {
  const { addresses } = chain;
  await deployPool(chain);
  addresses.tokens = {};
  addresses.reserves = {};
  const reserves = [];
  for (const specification of RESERVES) reserves.push(await deployReserve(chain, specification));
  const byName = Object.fromEntries(reserves.map((reserve) => [reserve.name, reserve]));
  await chain.deploy('AaveProtocolDataProvider', [addresses.addressesProvider], { label: 'dataProvider' });
  await chain.deploy('WETHGateway', [byName.WETH.asset, addresses.lendingPool], { label: 'wethGateway' });
  await chain.deploy('MockFlashLoanReceiver', [addresses.addressesProvider], { label: 'flashLoanReceiver' });
  return { reserves, byName };
}

/** Returns a call of the pool, as a transaction. */
export function poolCall(chain, from, method, values) {
  return { from, to: chain.addresses.lendingPool, data: encode('LendingPool', method, values) };
}

/** Returns what an account has in Aave and in its wallet. */
export async function aaveState(chain, account) {
  const { addresses } = chain;
  const { reserves } = chain.aave;
  const [data, ...rest] = await chain.read([
    ['LendingPool', addresses.lendingPool, 'getUserAccountData', [account]],
    ...reserves.map(({ asset }) => ['AaveProtocolDataProvider', addresses.dataProvider, 'getUserReserveData', [asset, account]]),
    ...reserves.map(({ kind, asset }) => [kind, asset, 'balanceOf', [account]]),
  ]);
  const positions = reserves.map((reserve, i) => {
    const [supply, stableDebt, variableDebt, , , , , , isCollateral] = rest[i];
    const [inWallet] = rest[reserves.length + i];
    return { reserve, supply, stableDebt, variableDebt, debt: stableDebt + variableDebt, isCollateral, inWallet };
  });
  const byName = Object.fromEntries(positions.map((position) => [position.reserve.name, position]));
  return { available: data[2], positions, byName };
}

/** Returns what a reserve can lend. */
export async function liquidity(chain, { kind, asset, aToken }) {
  return (await chain.readOne(kind, asset, 'balanceOf', [aToken]))[0];
}

/** Returns how much of a reserve's token an amount of ETH is. */
export const inAsset = (eth, { decimals, price }) => eth * 10n ** BigInt(decimals) / price;
