// Builds a chain, and serves its node until standard input is closed or SIGTERM or SIGINT arrives. When the node is ready,
// one line is printed: {"url", "pid", "out"}. Progress goes to standard error.

import { buildChain } from './lib/build.mjs';
import { parseOptions } from './lib/options.mjs';

const options = parseOptions(process.argv.slice(2));
const end = new Promise((resolve) => {
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, resolve);
  process.stdin.on('close', resolve).on('end', resolve).on('error', resolve).resume();
});
const building = buildChain(options, console.error);
const node = await Promise.race([building, end.then(() => null)]);
if (node) {
  console.log(JSON.stringify({ url: node.url, pid: node.process.pid, out: options.out }));
  await Promise.race([end, node.ended.then(() => { process.exitCode = 1; })]);
  await node.stop();
}
process.exit();
