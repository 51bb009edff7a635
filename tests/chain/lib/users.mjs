// The users: wallets, wallet contracts, a whale whose deposits others borrow.

import { mint } from './compound.mjs';
import { encode } from './contracts.mjs';
import { poolCall } from './aave.mjs';
import { MAX, units } from './units.mjs';

/** Returns a transaction by which a wallet contract makes several calls. */
export function execute(proxy, calls) {
  const values = calls.map((call) => call.value ?? 0n);
  const data = encode('UserProxy', 'exec', [calls.map((call) => call.to), values, calls.map((call) => call.data)]);
  return { from: proxy.owner, to: proxy.at, data };
}

/** Returns the calls that give an account tokens of a reserve, and let the protocols take them. */
function fundingCalls(chain, { name, kind, asset }, amount) {
  const markets = chain.compound?.markets.filter((market) => market.underlying === name) ?? [];
  const spenders = [chain.addresses.lendingPool, ...markets.map((market) => market.at)];
  return [
    { to: asset, data: encode(kind, 'mint', [amount]) },
    ...spenders.map((spender) => ({ to: asset, data: encode(kind, 'approve', [spender, MAX]) })),
  ];
}

async function fund(chain) {
  const { node, options, random, wallets, whale, liquidators, payer, proxies } = chain;
  const { reserves } = chain.aave;
  for (const account of [...wallets, whale, ...liquidators, payer]) {
    for (const reserve of reserves) {
      let share = 50;
      if (account === whale) share = options.wallets / 5;
      else if (wallets.includes(account)) share = random.between(0.2, 1.8);
      const amount = random.share(units(reserve.funds, reserve.decimals), share, share);
      if (amount === 0n) continue;
      for (const call of fundingCalls(chain, reserve, amount)) await node.send({ from: account, ...call }, 'fund');
    }
  }
  for (const proxy of proxies) {
    const calls = reserves.flatMap((reserve) => {
      return fundingCalls(chain, reserve, random.share(units(reserve.funds, reserve.decimals), 1, 2));
    });
    await node.send(execute(proxy, calls), 'fund proxy');
    await node.send({ from: proxy.owner, to: proxy.at, value: units(400, 18), data: '0x' }, 'fund proxy');
  }
}

/** Lets the gateway withdraw and borrow for wallets, and wallet contracts borrow for their owners. */
async function permit(chain) {
  const { node, wallets, proxies } = chain;
  const { reserves, byName } = chain.aave;
  const { wethGateway } = chain.addresses;
  const delegate = (contract, to, spender) => ({ to, data: encode(contract, 'approveDelegation', [spender, MAX]) });
  for (const from of wallets) {
    const approval = { to: byName.WETH.aToken, data: encode('AToken', 'approve', [wethGateway, MAX]) };
    await node.send({ from, ...approval }, 'approve gateway');
    const delegation = delegate('VariableDebtToken', byName.WETH.variableDebtToken, wethGateway);
    await node.send({ from, ...delegation }, 'approve gateway');
  }
  for (const { owner: from, at } of proxies) {
    for (const { variableDebtToken, stableDebtToken, hasStableLoans } of reserves) {
      await node.send({ from, ...delegate('VariableDebtToken', variableDebtToken, at) }, 'delegate');
      if (hasStableLoans) await node.send({ from, ...delegate('StableDebtToken', stableDebtToken, at) }, 'delegate');
    }
  }
}

/** Creates the wallet contracts, gives everyone funds and permissions, and lets the whale deposit. */
export async function createUsers(chain) {
  const { node, options, random, wallets, whale, proxies } = chain;
  for (let i = 0; i < Math.max(2, Math.floor(options.wallets / 8)); i++) {
    const owner = wallets[(i * 3) % wallets.length];
    proxies.push({ owner, at: await chain.deploy('UserProxy', [owner]) });
  }
  await fund(chain);
  await permit(chain);
  await node.mineNext();

  const portion = ({ funds, decimals }, share) => random.share(units(funds, decimals), share, share);
  for (const reserve of chain.aave.reserves) {
    const amount = portion(reserve, options.wallets / 10);
    await node.send(poolCall(chain, whale, 'deposit', [reserve.asset, amount, whale, 0]), 'deposit');
  }
  for (const market of chain.compound?.markets ?? []) {
    const reserve = chain.aave.byName[market.underlying];
    const amount = reserve ? portion(reserve, options.wallets / 20) : units(5 * options.wallets, 18);
    await node.send(mint(whale, market, amount), 'c.mint');
  }
  await node.mineNext();
}
