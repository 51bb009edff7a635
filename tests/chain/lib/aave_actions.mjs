// What wallets do in Aave.

import { aaveState, inAsset, liquidity, poolCall } from './aave.mjs';
import { encode } from './contracts.mjs';
import { MAX, units } from './units.mjs';
import { execute } from './users.mjs';

const [STABLE, VARIABLE] = [1, 2];
/** The smallest amount that an account must be able to borrow. */
const BORROWABLE = 10n ** 15n;

/** Returns a random action of a wallet as [transaction, type], or nothing if the chosen one is impossible. */
export async function aaveAction(chain, wallet) {
  const { addresses, payer, proxies, random, wallets } = chain;
  const { pick, chance, share } = random;
  const { reserves } = chain.aave;
  const state = await aaveState(chain, wallet);
  const { positions, available } = state;
  const supplies = positions.filter((position) => position.supply > 0n);
  const debts = positions.filter((position) => position.debt > 0n);
  const funds = positions.filter((position) => position.inWallet > 1000n);
  const stable = positions.filter((position) => position.stableDebt > 0n);
  const swappable = positions.filter((position) => position.reserve.hasStableLoans && position.debt > 0n);
  const ownProxy = proxies.find((proxy) => proxy.owner === wallet);
  const debt = debts.length ? pick(debts) : null;
  const supply = supplies.length ? pick(supplies) : null;
  const fund = funds.length ? pick(funds) : null;
  const canBorrow = available > BORROWABLE;

  const pool = (method, ...values) => poolCall(chain, wallet, method, values);
  const other = () => pick(wallets.filter((address) => address !== wallet));
  const otherOrProxy = (probability) => (chance(probability) ? pick(proxies).at : other());
  const gateway = (method, values, value) => {
    return { from: wallet, to: addresses.wethGateway, value, data: encode('WETHGateway', method, values) };
  };
  const transfer = (...values) => ({ from: wallet, to: supply.reserve.aToken, data: encode('AToken', 'transfer', values) });
  const modeOfDebt = ({ variableDebt }) => (variableDebt > 0n ? VARIABLE : STABLE);
  const amountOfDebt = ({ variableDebt, stableDebt }) => (variableDebt > 0n ? variableDebt : stableDebt);
  const stableOrVariable = ({ stableDebt, variableDebt }) => {
    return stableDebt > 0n && (variableDebt === 0n || chance(0.5)) ? STABLE : VARIABLE;
  };
  const borrow = async (mode) => {
    const reserve = pick(reserves.filter(({ hasStableLoans }) => mode === VARIABLE || hasStableLoans));
    const most = await liquidity(chain, reserve);
    let amount = share(inAsset(available, reserve), 0.15, 0.97);
    if (mode === STABLE && amount > most / 5n) amount = share(most, 0.02, 0.2);
    if (amount > most) amount = share(most, 0.1, 0.8);
    return amount === 0n ? null : pool('borrow', reserve.asset, amount, mode, 0, wallet);
  };

  // Each action has a weight and its transaction.
  const choices = {
    deposit: [supplies.length ? 14 : 80, () => {
      return fund && pool('deposit', fund.reserve.asset, share(fund.inWallet, 0.05, 0.6), wallet, 0);
    }],
    depositFor: [3, () => {
      return fund && pool('deposit', fund.reserve.asset, share(fund.inWallet, 0.02, 0.2), otherOrProxy(0.3), 0);
    }],
    depositETH: [4, () => gateway('depositETH', [wallet, 0], units(random.between(0.5, 20), 18))],
    withdraw: [supply ? 9 : 0, () => pool('withdraw', supply.reserve.asset, share(supply.supply, 0.05, 0.5), wallet)],
    withdrawAll: [supply ? 3 : 0, () => pool('withdraw', supply.reserve.asset, MAX, wallet)],
    withdrawTo: [supply ? 2 : 0, () => pool('withdraw', supply.reserve.asset, share(supply.supply, 0.05, 0.3), other())],
    withdrawETH: [state.byName.WETH.supply > 0n ? 3 : 0, () => {
      return gateway('withdrawETH', [chance(0.2) ? MAX : share(state.byName.WETH.supply, 0.1, 0.5), wallet]);
    }],
    borrowVar: [canBorrow ? 18 : 0, () => borrow(VARIABLE)],
    borrowStable: [canBorrow ? 8 : 0, () => borrow(STABLE)],
    borrowETH: [canBorrow ? 2 : 0, () => gateway('borrowETH', [share(available, 0.05, 0.5), VARIABLE, 0])],
    repay: [debt ? 8 : 0, () => {
      return pool('repay', debt.reserve.asset, share(amountOfDebt(debt), 0.1, 0.9), modeOfDebt(debt), wallet);
    }],
    repayMax: [debt ? 4 : 0, () => pool('repay', debt.reserve.asset, MAX, stableOrVariable(debt), wallet)],
    repayFor: [debt ? 2 : 0, () => {
      const amount = share(amountOfDebt(debt), 0.2, 1);
      return poolCall(chain, payer, 'repay', [debt.reserve.asset, amount, modeOfDebt(debt), wallet]);
    }],
    // Less than the interest that is due.
    repayTiny: [stable.length ? 12 : 0, () => {
      return pool('repay', pick(stable).reserve.asset, BigInt(random.integer(1, 5)), STABLE, wallet);
    }],
    swap: [swappable.length ? 5 : 0, () => {
      const position = pick(swappable);
      return pool('swapBorrowRateMode', position.reserve.asset, stableOrVariable(position));
    }],
    aTransfer: [supply ? 6 : 0, () => transfer(otherOrProxy(0.2), share(supply.supply, 0.05, 0.4))],
    // Leaves the interest of one block behind.
    aTransferAll: [supply ? 2 : 0, () => transfer(other(), supply.supply)],
    aTransferSelf: [supply ? 1 : 0, () => transfer(wallet, share(supply.supply, 0.1, 0.9))],
    setCollateral: [supply ? 5 : 0, () => {
      return pool('setUserUseReserveAsCollateral', supply.reserve.asset, !supply.isCollateral);
    }],
    flash: [1, async () => {
      const { asset, ...reserve } = pick(reserves);
      const amount = share(await liquidity(chain, { asset, ...reserve }), 0.05, 0.5);
      return pool('flashLoan', addresses.flashLoanReceiver, [asset], [amount], [0], wallet, '0x', 0);
    }],
    // One of two loans is kept as debt.
    flashDebt: [canBorrow ? 1 : 0, async () => {
      const kept = pick(reserves);
      const returned = pick(reserves.filter((reserve) => reserve !== kept));
      const most = await liquidity(chain, kept);
      const amountReturned = (await liquidity(chain, returned)) / 10n;
      let amount = share(inAsset(available, kept), 0.05, 0.5);
      if (amount > most) amount = most / 3n;
      const [assets, amounts] = [[kept.asset, returned.asset], [amount, amountReturned]];
      return pool('flashLoan', addresses.flashLoanReceiver, assets, amounts, [VARIABLE, 0], wallet, '0x', 0);
    }],
    // The wallet contract borrows for its owner.
    delegated: [ownProxy && canBorrow ? 8 : 0, async () => {
      const reserve = pick(reserves);
      const most = await liquidity(chain, reserve);
      let amount = share(inAsset(available, reserve), 0.1, 0.6);
      if (amount > most / 5n) amount = share(most, 0.02, 0.2);
      const mode = reserve.hasStableLoans && chance(0.3) ? STABLE : VARIABLE;
      return execute(ownProxy, [pool('borrow', reserve.asset, amount, mode, 0, wallet)]);
    }],
    rebalance: [stable.length ? 1 : 0, () => {
      return poolCall(chain, payer, 'rebalanceStableBorrowRate', [pick(stable).reserve.asset, wallet]);
    }],
  };
  const type = random.weighted(Object.entries(choices).map(([name, [weight]]) => [name, weight]));
  const transaction = await choices[type][1]();
  return transaction && [transaction, type];
}
