// Random numbers from a seed (mulberry32), and the distributions that the days of a chain need.

/** Returns a source of random numbers. */
export function random(seed) {
  let state = (seed * 2654435761) >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const between = (low, high) => low + (high - low) * next();
  const integer = (low, high) => Math.floor(between(low, high + 1));
  return {
    /** A number from 0 to 1. */
    next,
    /** A number in a range. */
    between,
    /** An integer in a range, both ends included. */
    integer,
    /** An element of an array. */
    pick: (array) => array[integer(0, array.length - 1)],
    /** True with a probability. */
    chance: (probability) => next() < probability,
    /** A number of the normal distribution. */
    gauss: () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()),
    /** A share of an amount, in a range of shares. */
    share: (amount, low, high) => amount * BigInt(Math.round(between(low, high) * 1e6)) / 1000000n,
    /** A key of [[key, weight]], by weight. */
    weighted: (choices) => {
      const total = choices.reduce((sum, [, weight]) => sum + weight, 0);
      let rest = next() * total;
      for (const [key, weight] of choices) {
        rest -= weight;
        if (rest < 0) return key;
      }
      return choices[0][0];
    },
  };
}
