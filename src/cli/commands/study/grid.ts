/** Options of studies that train. */
export const GRID_FLAGS = ['tasks', 'algorithms', 'preset', 'cost-limits', 'seeds', 'set', 'episodes', 'jobs']
