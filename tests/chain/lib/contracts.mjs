// The contracts' code and interfaces, and how they are deployed and called.

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';

import { Interface, getCreateAddress } from 'ethers';

import { DEPLOYMENT_GAS } from './node.mjs';
import { compiled, packages } from './paths.mjs';

/** Searched in this order. */
const FOLDERS = [
  compiled,
  path.join(packages, 'set/external/abi/compound'),
  path.join(packages, 'set/artifacts'),
  path.join(packages, 'aave/artifacts'),
];
/** The package spells it so. */
const FILE_NAMES = { CErc20: 'CERc20' };

/** Returns the files below a folder by name. The first one of a name counts. */
function filesByName(folder, files = new Map()) {
  if (!existsSync(folder)) throw new Error(`${folder} is missing: make tests/chain/node_modules/ready installs it`);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) filesByName(file, files);
    else if (!files.has(entry.name)) files.set(entry.name, file);
  }
  return files;
}

let folders;
const artifacts = new Map();

/** Returns a contract's code and interface. */
function artifact(name) {
  if (!artifacts.has(name)) {
    folders ??= FOLDERS.map((folder) => filesByName(folder));
    const files = folders.find((files) => files.has(`${FILE_NAMES[name] ?? name}.json`));
    if (!files) throw new Error(`there is no contract ${name}`);
    const { abi, bytecode, linkReferences } = JSON.parse(readFileSync(files.get(`${FILE_NAMES[name] ?? name}.json`)));
    artifacts.set(name, { bytecode, linkReferences: linkReferences ?? {}, abi: new Interface(abi) });
  }
  return artifacts.get(name);
}

/** Returns a call's data. */
export const encode = (contract, method, values = []) => artifact(contract).abi.encodeFunctionData(method, values);

/** Returns a contract's code with the addresses of its libraries. */
function link(name, libraries) {
  const { bytecode, linkReferences } = artifact(name);
  let code = bytecode;
  for (const file of Object.values(linkReferences)) {
    for (const [library, places] of Object.entries(file)) {
      if (!libraries[library]) throw new Error(`${name} needs ${library}`);
      for (const { start, length } of places) {
        const address = libraries[library].slice(2).toLowerCase();
        code = code.slice(0, 2 + start * 2) + address + code.slice(2 + (start + length) * 2);
      }
    }
  }
  return code;
}

/** Sends the transaction that deploys a contract. Returns the address that it will have. */
export async function sendDeployment(node, from, name, values = [], libraries = {}) {
  const data = link(name, libraries) + artifact(name).abi.encodeDeploy(values).slice(2);
  const nonce = await node.send({ from, data, gas: DEPLOYMENT_GAS }, `deploy ${name}`);
  return getCreateAddress({ from, nonce });
}

/** Deploys a contract. Returns its address. */
export async function deploy(node, from, name, values, libraries) {
  const address = await sendDeployment(node, from, name, values, libraries);
  await node.mineChecked();
  return address;
}

/** Returns the results of calls [contract, address, method, values], with null for a call that reverted. */
export async function read(node, calls, block = 'latest') {
  const requests = calls.map(([contract, to, method, values = []]) => {
    return ['eth_call', [{ to, data: encode(contract, method, values) }, block]];
  });
  const results = await node.batch(requests);
  return results.map((result, i) => {
    const [contract, , method] = calls[i];
    return result?.error === undefined ? artifact(contract).abi.decodeFunctionResult(method, result) : null;
  });
}

/** Returns the result of one call. */
export const readOne = async (node, ...call) => (await read(node, [call]))[0];
