// Compound v2: its deployment, and transactions to its markets.

import { encode } from './contracts.mjs';
import { units } from './units.mjs';

// CEther and CErc20 are of 2019: their AccrueInterest has three fields. Delegates have four.
const MARKETS = [
  { name: 'cETH', underlying: null, kind: 'CEther', collateralFactor: 0.75, reserveFactor: 0.1 },
  { name: 'cUSDC', underlying: 'USDC', kind: 'CErc20', collateralFactor: 0.75, reserveFactor: 0.07 },
  { name: 'cDAI', underlying: 'DAI', kind: 'CErc20Delegate', collateralFactor: 0.75, reserveFactor: 0.15 },
  { name: 'cLINK', underlying: 'LINK', kind: 'CErc20DelegateSeizeShare', collateralFactor: 0.6, reserveFactor: 0.25 },
];
const C_TOKEN_DECIMALS = 8;

/** Returns the reserve of Aave with the same token, which is WETH for native ETH. */
const reserveOf = (chain, market) => chain.aave.byName[market.underlying ?? 'WETH'];

/** Returns a market's price as the oracle has it: 36 decimals less those of the token. */
export function marketPrice(chain, market) {
  const { price, decimals } = reserveOf(chain, market);
  return price * 10n ** BigInt(18 - decimals);
}

/** Deploys the Comptroller. */
async function deployComptroller(chain) {
  const { addresses, node } = chain;
  const comptroller = await chain.deploy('Unitroller', [], { label: 'comptroller' });
  chain.firstBlocks.compound = { block: node.head, time: node.now };
  const implementation = await chain.deploy('Comptroller');
  await chain.deploy('CompoundPriceOracleMock', [], { label: 'compoundPriceOracle' });
  await chain.administer('Unitroller', comptroller, '_setPendingImplementation', [implementation]);
  await node.mineChecked();
  await chain.administer('Comptroller', implementation, '_become', [comptroller, 0, [], []]);
  await node.mineChecked();
  const set = (method, value) => chain.administer('Comptroller', comptroller, method, [value]);
  await set('_setPriceOracle', addresses.compoundPriceOracle);
  await set('_setMaxAssets', 20);
  await set('_setCloseFactor', units(0.5, 18));
  await set('_setLiquidationIncentive', units(1.08, 18));
  await node.mineChecked();
}

/** Deploys a market. */
async function deployMarket(chain, specification, { oldRates, newRates, implementations }) {
  const { addresses, node } = chain;
  const { name, underlying, kind } = specification;
  const { comptroller } = addresses;
  const token = underlying && chain.aave.byName[underlying];
  const decimals = token?.decimals ?? 18;
  const initialRate = 2n * 10n ** BigInt(decimals + 18 - C_TOKEN_DECIMALS - 2);
  const title = `Compound ${underlying ?? 'Ether'}`;
  const last = [initialRate, title, name, C_TOKEN_DECIMALS];
  let at;
  if (kind === 'CEther') {
    at = await chain.deploy('CEther', [comptroller, oldRates, ...last]);
  } else if (kind === 'CErc20') {
    at = await chain.deploy('CErc20', [token.asset, comptroller, oldRates, ...last]);
  } else {
    const delegation = [chain.administrator, implementations[kind], '0x'];
    at = await chain.deploy('CErc20Delegator', [token.asset, comptroller, newRates, ...last, ...delegation]);
  }
  const abi = kind === 'CErc20DelegateSeizeShare' ? 'CErc20Delegate' : kind;
  const market = { ...specification, at, abi };
  const price = marketPrice(chain, market);
  await chain.administer('CompoundPriceOracleMock', addresses.compoundPriceOracle, 'setUnderlyingPrice', [at, price]);
  await chain.administer('Comptroller', comptroller, '_supportMarket', [at]);
  await node.mineChecked();
  const factor = units(specification.collateralFactor, 18);
  await chain.administer('Comptroller', comptroller, '_setCollateralFactor', [at, factor]);
  await chain.administer(abi, at, '_setReserveFactor', [units(specification.reserveFactor, 18)]);
  await node.mineChecked();
  addresses.cTokens[name] = {
    address: at,
    underlying,
    underlyingAddress: token?.asset ?? null,
    underlyingDecimals: decimals,
    kind,
    initialExchangeRate: String(initialRate),
  };
  return market;
}

/** Deploys Compound v2. Returns its markets. */
export async function deployCompound(chain) {
  await deployComptroller(chain);
  // There are fewer blocks than on mainnet. Rates per block are higher to make up for it, but below the new cTokens' limit
  // of 5e-6 a block.
  const speed = 7200 / (chain.options.fill + 6);
  const oldRates = await chain.deploy('WhitePaperInterestRateModel', [
    // In this order, for the result depends on it.
    units(0.02 * speed * 2102400 / 2628000, 18),
    units(0.2 * speed * 2102400 / 2628000, 18),
  ]);
  const newRates = await chain.deploy('JumpRateModel', [10.5, 31.5, 63, 0.8].map((rate) => units(rate, 18)));
  const implementations = {};
  for (const kind of ['CErc20Delegate', 'CErc20DelegateSeizeShare']) implementations[kind] = await chain.deploy(kind);
  chain.addresses.cTokens = {};
  const markets = [];
  for (const specification of MARKETS) {
    markets.push(await deployMarket(chain, specification, { oldRates, newRates, implementations }));
  }
  return { markets, byName: Object.fromEntries(markets.map((market) => [market.name, market])) };
}

/** Returns a call of a market, as a transaction. */
export function marketCall(from, market, method, values = [], value = 0n) {
  return { from, to: market.at, value, data: encode(market.abi, method, values) };
}

/** Returns a deposit. */
export function mint(from, market, amount) {
  return market.underlying ? marketCall(from, market, 'mint', [amount]) : marketCall(from, market, 'mint', [], amount);
}

/** Returns what an account has in Compound and in its wallet. */
export async function compoundState(chain, account) {
  const { comptroller } = chain.addresses;
  const { reserves } = chain.aave;
  const { markets } = chain.compound;
  const [liquidity, ...rest] = await chain.read([
    ['Comptroller', comptroller, 'getAccountLiquidity', [account]],
    ...markets.flatMap(({ abi, at }) => [
      [abi, at, 'getAccountSnapshot', [account]],
      ['Comptroller', comptroller, 'checkMembership', [account, at]],
      [abi, at, 'getCash'],
    ]),
    ...reserves.map(({ kind, asset }) => [kind, asset, 'balanceOf', [account]]),
  ]);
  const positions = markets.map((market, i) => {
    const [[, tokens, debt, exchangeRate], [isMember], [cash]] = rest.slice(3 * i, 3 * i + 3);
    return { market, tokens, debt, exchangeRate, isMember, cash };
  });
  const inWallet = Object.fromEntries(reserves.map(({ name }, i) => [name, rest[3 * markets.length + i][0]]));
  return { liquidity: liquidity[1], positions, inWallet };
}

/** Returns how much of a market's token an amount of ETH is. */
export const inUnderlying = (chain, eth, market) => eth * 10n ** 18n / marketPrice(chain, market);
