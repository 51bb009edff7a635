// What wallet contracts do: several calls in one transaction.

import { aaveState, inAsset, liquidity, poolCall } from './aave.mjs';
import { compoundProxyCalls } from './compound_actions.mjs';
import { encode } from './contracts.mjs';
import { MAX } from './units.mjs';
import { execute } from './users.mjs';

const [STABLE, VARIABLE] = [1, 2];

/** Returns a random transaction of a wallet contract as [transaction, type], or nothing if it would have one call. */
export async function proxyAction(chain, proxy) {
  const { pick, chance, share } = chain.random;
  const { positions, available } = await aaveState(chain, proxy.at);
  const calls = [];
  const pool = (method, ...values) => calls.push(poolCall(chain, proxy.at, method, values));

  const funds = positions.filter((position) => position.inWallet > 1000n);
  const fund = funds.length ? pick(funds) : null;
  let deposit = 0n;
  if (fund && chance(0.8)) {
    deposit = share(fund.inWallet, 0.05, 0.4);
    pool('deposit', fund.reserve.asset, (deposit / 3n) * 2n, proxy.at, 0);
    pool('deposit', fund.reserve.asset, deposit / 3n, proxy.at, 0);
  }

  const reserve = pick(chain.aave.reserves);
  const most = await liquidity(chain, reserve);
  let amount = share(inAsset(available, reserve), 0.1, 0.5);
  if (amount > most / 4n) amount = most / 4n;
  if (amount > 0n) {
    const mode = reserve.hasStableLoans && chance(0.3) ? STABLE : VARIABLE;
    if (mode === STABLE && amount > most / 6n) amount = most / 6n;
    pool('borrow', reserve.asset, amount, mode, 0, proxy.at);
    if (chance(0.6)) pool('repay', reserve.asset, amount / 3n, mode, proxy.at);
    if (chance(0.3)) pool('borrow', reserve.asset, amount / 10n, VARIABLE, 0, proxy.at);
  }

  const repayable = positions.filter(({ debt, inWallet }) => debt > 0n && inWallet > debt);
  if (repayable.length && chance(0.4)) {
    const { reserve: { asset }, variableDebt } = pick(repayable);
    pool('repay', asset, MAX, variableDebt > 0n ? VARIABLE : STABLE, proxy.at);
  }

  const supplies = positions.filter((position) => position.supply > 0n);
  if (supplies.length && chance(0.5)) {
    const { reserve: { asset, aToken }, supply } = pick(supplies);
    pool('withdraw', asset, share(supply, 0.02, 0.1), proxy.at);
    if (chance(0.4)) {
      calls.push({ to: aToken, data: encode('AToken', 'transfer', [proxy.owner, share(supply, 0.01, 0.05)]) });
    }
  }
  if (deposit > 0n && chance(0.3)) pool('withdraw', fund.reserve.asset, deposit / 4n, proxy.at);
  if (supplies.length && chance(0.15)) {
    const { asset } = pick(supplies).reserve;
    pool('setUserUseReserveAsCollateral', asset, false);
    pool('setUserUseReserveAsCollateral', asset, true);
  }
  if (chain.compound && chance(0.5)) calls.push(...(await compoundProxyCalls(chain, proxy.at)));
  return calls.length < 2 ? null : [execute(proxy, calls), `multi(${calls.length})`];
}
