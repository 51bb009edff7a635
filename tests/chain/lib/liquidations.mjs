// Liquidations of accounts that owe more than their collateral allows.

import { aaveState, poolCall } from './aave.mjs';
import { compoundState, marketCall, marketPrice } from './compound.mjs';
import { MAX } from './units.mjs';

const ONE = 10n ** 18n;

/** Sends liquidations of some of the accounts that can be liquidated. */
export async function liquidate(chain) {
  await liquidateInAave(chain);
  if (chain.compound) await liquidateInCompound(chain);
}

async function liquidateInAave(chain) {
  const { actors, addresses, liquidators, node, random } = chain;
  const { pick, chance, share } = random;
  const data = await chain.read(actors.map((account) => ['LendingPool', addresses.lendingPool, 'getUserAccountData', [account]]));
  for (const [i, account] of actors.entries()) {
    const healthFactor = data[i][5];
    if (healthFactor >= ONE || !chance(0.4)) continue;
    const { positions } = await aaveState(chain, account);
    const debts = positions.filter(({ debt }) => debt > 0n);
    const collaterals = positions.filter(({ isCollateral, supply, reserve }) => isCollateral && supply > 0n && reserve.collateral);
    if (!debts.length || !collaterals.length) continue;
    const { reserve: { asset: debtAsset }, debt } = pick(debts);
    const { asset: collateralAsset } = pick(collaterals).reserve;
    const liquidator = pick(liquidators);
    const amount = chance(0.6) ? MAX : share(debt, 0.05, 0.45);
    const takesATokens = chance(0.4);
    const values = [collateralAsset, debtAsset, account, amount, takesATokens];
    await node.send(poolCall(chain, liquidator, 'liquidationCall', values), 'liquidation', account);
  }
}

async function liquidateInCompound(chain) {
  const { actors, addresses, liquidators, node, random } = chain;
  const { pick, chance, share } = random;
  const data = await chain.read(actors.map((account) => ['Comptroller', addresses.comptroller, 'getAccountLiquidity', [account]]));
  for (const [i, account] of actors.entries()) {
    const shortfall = data[i][2];
    if (shortfall === 0n || !chance(0.75)) continue;
    const { positions } = await compoundState(chain, account);
    const debts = positions.filter(({ debt }) => debt > 0n);
    const collaterals = positions.filter(({ isMember, tokens }) => isMember && tokens > 0n);
    if (!debts.length || !collaterals.length) continue;
    const { market, debt } = pick(debts);
    const collateral = pick(collaterals);
    const liquidator = pick(liquidators);
    let amount = share(debt, 0.1, 0.49);
    const supply = collateral.tokens * collateral.exchangeRate / ONE;
    const most = supply * marketPrice(chain, collateral.market) / marketPrice(chain, market) * 85n / 100n;
    if (amount > most) amount = most;
    if (amount === 0n) continue;
    const transaction = market.underlying
      ? marketCall(liquidator, market, 'liquidateBorrow', [account, amount, collateral.market.at])
      : marketCall(liquidator, market, 'liquidateBorrow', [account, collateral.market.at], amount);
    await node.send(transaction, 'c.liquidation', account);
  }
}
