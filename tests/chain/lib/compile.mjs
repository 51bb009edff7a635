// Compiles the contracts that no package has in a usable form:
//
// - UserProxy, Multicall and Multicall3, from contracts/.
// - The "new" cTokens, Compound v2's CErc20Delegator and CErc20Delegate of 2020 and later, from Venus' fork of them
//   (VBep20Delegator and VBep20Delegate), with the patches below.
// - JumpRateModel, the interest rate model of the new cTokens.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

import { compiled, packages, root } from './paths.mjs';

const DELEGATE = 'Tokens/VTokens/VBep20Delegate.sol';
const DELEGATOR = 'Tokens/VTokens/VBep20Delegator.sol';
const RATE_MODEL = 'InterestRateModels/JumpRateModel.sol';

/** Replaces text that must occur exactly once. */
function replaceOnce(source, old, replacement) {
  const parts = source.split(old);
  if (parts.length !== 2) throw new Error(`found ${parts.length - 1} times: ${old}`);
  return parts.join(replacement);
}

/** Removes Venus' redemption fee, which it asks the Comptroller for. Compound's Comptroller has none. */
function withoutRedemptionFee(source) {
  const start = source.indexOf('        uint feeAmount;\n        uint remainedAmount;\n        if (IComptroller');
  const last = '        } else {\n            remainedAmount = vars.redeemAmount;\n        }\n';
  const end = source.indexOf(last, start);
  if (start < 0 || end < 0) throw new Error('the redemption fee is not found');
  return `${source.slice(0, start)}        uint remainedAmount = vars.redeemAmount;\n${source.slice(end + last.length)}`;
}

/** Gives 2.8 % of seized tokens to the reserves, as Compound's cTokens do since version 2.8.1. */
function withSeizeShare(source) {
  const patched = replaceOnce(
    source,
    '(mathErr, liquidatorTokensNew) = addUInt(accountTokens[liquidator], seizeTokens);',
    `uint protocolSeizeTokens = seizeTokens * 2.8e16 / 1e18;
        (mathErr, liquidatorTokensNew) = addUInt(accountTokens[liquidator], seizeTokens - protocolSeizeTokens);`,
  );
  return replaceOnce(
    patched,
    '        /* Emit a Transfer event */\n        emit Transfer(borrower, liquidator, seizeTokens);\n',
    `        uint protocolSeizeAmount = exchangeRateStored() * protocolSeizeTokens / 1e18;
        totalReserves = totalReserves + protocolSeizeAmount;
        totalSupply = totalSupply - protocolSeizeTokens;
        emit Transfer(borrower, liquidator, seizeTokens - protocolSeizeTokens);
        emit Transfer(borrower, address(this), protocolSeizeTokens);
        emit ReservesAdded(address(this), protocolSeizeAmount, totalReserves);
`,
  );
}

/** Returns the sources of the new cTokens, with all files that they import. */
function cTokenSources(hasSeizeShare) {
  const sources = {};
  const add = (file) => {
    if (sources[file]) return;
    let content = readFileSync(path.join(packages, 'venus/contracts', file), 'utf8');
    if (file.endsWith('/VToken.sol')) {
      content = withoutRedemptionFee(content);
      if (hasSeizeShare) content = withSeizeShare(content);
    }
    // Compound's Comptroller asks for this marker.
    content = content.replaceAll('isVToken', 'isCToken');
    sources[file] = { content };
    for (const [, imported] of content.matchAll(/^import\s+(?:\{[^}]*\}\s+from\s+)?"([^"]+)"/gm)) {
      add(path.join(path.dirname(file), imported));
    }
  };
  [DELEGATE, DELEGATOR, RATE_MODEL].forEach(add);
  return sources;
}

/** Compiles sources, and writes the contracts `names`: [file, contract, name to write it under]. */
function compileSources(sources, names) {
  const solc = createRequire(import.meta.url)('solc');
  const settings = {
    optimizer: { enabled: true, runs: 200 },
    outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object'] } },
  };
  const output = JSON.parse(solc.compile(JSON.stringify({ language: 'Solidity', sources, settings })));
  const errors = (output.errors ?? []).filter((error) => error.severity === 'error');
  if (errors.length > 0) throw new Error(errors.map((error) => error.formattedMessage).join('\n'));
  for (const [file, contract, name] of names) {
    const { abi, evm } = output.contracts[file][contract];
    const artifact = { contractName: name, abi, bytecode: `0x${evm.bytecode.object}`, linkReferences: {} };
    writeFileSync(path.join(compiled, `${name}.json`), JSON.stringify(artifact));
  }
}

/** Compiles all contracts. */
export function compile() {
  mkdirSync(compiled, { recursive: true });
  compileSources(cTokenSources(false), [
    [DELEGATE, 'VBep20Delegate', 'CErc20Delegate'],
    [DELEGATOR, 'VBep20Delegator', 'CErc20Delegator'],
    [RATE_MODEL, 'JumpRateModel', 'JumpRateModel'],
  ]);
  compileSources(cTokenSources(true), [[DELEGATE, 'VBep20Delegate', 'CErc20DelegateSeizeShare']]);
  for (const name of ['UserProxy', 'Multicall', 'Multicall3']) {
    const file = `${name}.sol`;
    const content = readFileSync(path.join(root, 'contracts', file), 'utf8');
    compileSources({ [file]: { content } }, [[file, name, name]]);
  }
}
