/**
 * Seeded pseudo-random numbers for environments and scripted data: xoshiro128** (Blackman and Vigna, 2018),
 * its 128-bit state filled by splitmix32. Own and small because the same seed must give the same episode on every
 * platform and in every later version; `Math.random` cannot be seeded.
 */
export class Random {
  private a: number
  private b: number
  private c: number
  private d: number
  private spare = Number.NaN

  /** @param seeds integers; each is mixed in, so `(seed, episode)` names an independent stream. */
  constructor(...seeds: number[]) {
    let state = 0
    const next = (): number => {
      state = (state + 0x9e3779b9) | 0
      let z = state
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
      return z ^ (z >>> 15)
    }
    for (const seed of seeds) {
      state = next() ^ seed ^ Math.trunc(seed / 2 ** 32)
    }
    this.a = next()
    this.b = next()
    this.c = next()
    this.d = next()
  }

  /** Uniform in [0, 1) with 32 random bits. */
  uniform(): number {
    const five = Math.imul(this.b, 5)
    const out = Math.imul((five << 7) | (five >>> 25), 9) >>> 0
    const t = this.b << 9
    this.c ^= this.a
    this.d ^= this.b
    this.b ^= this.c
    this.a ^= this.d
    this.c ^= t
    this.d = (this.d << 11) | (this.d >>> 21)
    return out / 2 ** 32
  }

  /** Uniform in [low, high). */
  between(low: number, high: number): number {
    return low + (high - low) * this.uniform()
  }

  /** True with the given probability. */
  chance(probability: number): boolean {
    return this.uniform() < probability
  }

  /** Standard normal, by Marsaglia's polar method; the second value of each pair is kept for the next call. */
  normal(): number {
    if (!Number.isNaN(this.spare)) {
      const value = this.spare
      this.spare = Number.NaN
      return value
    }
    for (;;) {
      const u = this.between(-1, 1)
      const v = this.between(-1, 1)
      const s = u * u + v * v
      if (s > 0 && s < 1) {
        const factor = Math.sqrt((-2 * Math.log(s)) / s)
        this.spare = v * factor
        return u * factor
      }
    }
  }
}
