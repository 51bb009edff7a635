// What wallets do in Compound.

import { compoundState, inUnderlying, marketCall, mint } from './compound.mjs';
import { encode } from './contracts.mjs';
import { MAX, units } from './units.mjs';

/** The smallest amount that an account must be able to borrow. */
const BORROWABLE = 10n ** 15n;

/** Returns a random action of a wallet as [transaction, type], or nothing if the chosen one is impossible. */
export async function compoundAction(chain, wallet) {
  const { payer, proxies, random, wallets } = chain;
  const { pick, chance, share } = random;
  const { markets, byName } = chain.compound;
  const { liquidity, positions, inWallet } = await compoundState(chain, wallet);
  const supplies = positions.filter((position) => position.tokens > 0n);
  const debts = positions.filter((position) => position.debt > 0n);
  const entered = positions.filter((position) => position.isMember);
  const supply = supplies.length ? pick(supplies) : null;
  const debt = debts.length ? pick(debts) : null;

  const comptroller = (method, ...values) => {
    return { from: wallet, to: chain.addresses.comptroller, data: encode('Comptroller', method, values) };
  };
  const borrowable = (market, low, high, most = liquidity) => share(inUnderlying(chain, most, market), low, high);
  const ofSupply = (method, ...values) => marketCall(wallet, supply.market, method, values);
  const tokens = (low, high) => share(supply.tokens, low, high);
  const other = () => pick(wallets.filter((address) => address !== wallet));

  // Each action has a weight and its transaction.
  const choices = {
    'c.mint': [supplies.length ? 9 : 60, () => {
      const market = pick(markets);
      const amount = market.underlying
        ? share(inWallet[market.underlying], 0.03, 0.25)
        : units(random.between(1, 60), 18);
      return mint(wallet, market, amount);
    }],
    'c.mintFallback': [3, () => {
      return { from: wallet, to: byName.cETH.at, value: units(random.between(0.1, 10), 18), data: '0x' };
    }],
    'c.enter': [supplies.some((position) => !position.isMember) ? 14 : 1, () => {
      const outside = supplies.filter((position) => !position.isMember);
      return comptroller('enterMarkets', (outside.length ? outside : positions).map(({ market }) => market.at));
    }],
    'c.exit': [entered.length ? 3 : 0, () => comptroller('exitMarket', pick(entered).market.at)],
    'c.borrow': [liquidity > BORROWABLE ? 30 : 0, () => {
      const { market, cash } = pick(positions);
      let amount = borrowable(market, 0.1, 0.95);
      if (amount > cash) amount = share(cash, 0.1, 0.6);
      return amount === 0n ? null : marketCall(wallet, market, 'borrow', [amount]);
    }],
    // Gives a Failure event, and no revert.
    'c.borrowTooMuch': [1, () => {
      const { market } = pick(positions);
      return marketCall(wallet, market, 'borrow', [borrowable(market, 1.5, 3, liquidity + 10n ** 18n)]);
    }],
    'c.repay': [debt ? 8 : 0, () => repay(wallet, debt.market, share(debt.debt, 0.1, 0.9))],
    'c.repayAll': [debt ? 4 : 0, () => repay(wallet, debt.market, debt.market.underlying ? MAX : debt.debt)],
    'c.repayFor': [debt ? 2 : 0, () => {
      const { market } = debt;
      const amount = share(debt.debt, 0.1, 0.9);
      return market.underlying
        ? marketCall(payer, market, 'repayBorrowBehalf', [wallet, amount])
        : marketCall(payer, market, 'repayBorrowBehalf', [wallet], amount);
    }],
    'c.redeem': [supply ? 7 : 0, () => ofSupply('redeem', tokens(0.05, 0.6))],
    'c.redeemAll': [supply ? 3 : 0, () => ofSupply('redeem', supply.tokens)],
    'c.redeemUnderlying': [supply ? 5 : 0, () => {
      return ofSupply('redeemUnderlying', share(supply.tokens * supply.exchangeRate / 10n ** 18n, 0.05, 0.5));
    }],
    'c.transfer': [supply ? 5 : 0, () => ofSupply('transfer', chance(0.2) ? pick(proxies).at : other(), tokens(0.05, 0.5))],
    'c.transferToMarket': [supply ? 0.6 : 0, () => ofSupply('transfer', supply.market.at, tokens(0.01, 0.05))],
    'c.poke': [0.5, () => marketCall(wallet, pick(markets), 'accrueInterest')],
  };
  const type = random.weighted(Object.entries(choices).map(([name, [weight]]) => [name, weight]));
  const transaction = choices[type][1]();
  return transaction && [transaction, type];
}

/** Returns a repayment. */
function repay(from, market, amount) {
  return market.underlying
    ? marketCall(from, market, 'repayBorrow', [amount])
    : marketCall(from, market, 'repayBorrow', [], amount);
}

/** Returns the calls by which a wallet contract deposits and borrows. */
export async function compoundProxyCalls(chain, address) {
  const { pick, chance, share } = chain.random;
  const { markets } = chain.compound;
  const { liquidity, positions, inWallet } = await compoundState(chain, address);
  const deposited = pick(markets.filter((market) => market.underlying));
  const deposit = share(inWallet[deposited.underlying], 0.05, 0.2);
  if (deposit === 0n) return [];
  const calls = [
    marketCall(address, deposited, 'mint', [deposit]),
    { to: chain.addresses.comptroller, data: encode('Comptroller', 'enterMarkets', [[deposited.at]]) },
  ];
  const borrowed = pick(markets);
  const { cash } = positions.find(({ market }) => market === borrowed);
  let amount = share(inUnderlying(chain, liquidity, borrowed), 0.05, 0.4);
  if (amount > cash) amount = cash / 4n;
  if (amount > 0n) {
    calls.push(marketCall(address, borrowed, 'borrow', [amount]));
    if (borrowed.underlying && chance(0.5)) calls.push(marketCall(address, borrowed, 'repayBorrow', [amount / 2n]));
  }
  return calls;
}
