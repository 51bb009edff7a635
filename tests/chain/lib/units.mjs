// Amounts as integers.

export const MAX = (1n << 256n) - 1n;
export const ZERO_ADDRESS = `0x${'0'.repeat(40)}`;

/** A number as an integer with so many decimals. */
export const units = (number, decimals) => BigInt(Math.round(number * 1e6)) * 10n ** BigInt(decimals) / 1000000n;

/** A number as Aave's contracts have rates and indexes. */
export const ray = (number) => units(number, 27);

/** A number as JSON-RPC has it. */
export const hex = (number) => `0x${number.toString(16)}`;

/** The UTC day of a time in seconds. */
export const date = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10);
