/** One-way dependencies: bin -> actors -> {machines, src}; machines and src know nothing of actors. */
module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'src-below-actors',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(actors|machines|bin|test|bench)/' },
    },
    {
      name: 'machines-are-pure',
      comment: 'Machines may use xstate and types from src, nothing else; machines/xstate.ts loads it.',
      severity: 'error',
      from: { path: '^machines/', pathNot: '^machines/xstate[.]ts$' },
      to: { pathNot: '^(machines/|node_modules/xstate)', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'machines-below-actors',
      severity: 'error',
      from: { path: '^machines/' },
      to: { path: '^(actors|bin|test|bench)/' },
    },
    {
      name: 'actors-below-bin',
      severity: 'error',
      from: { path: '^actors/' },
      to: { path: '^(bin|test|bench)/' },
    },
    {
      name: 'product-not-on-tests',
      severity: 'error',
      from: { path: '^(bin|src|actors|machines)/' },
      to: { path: '^(test|bench)/' },
    },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
      exportsFields: ['exports'],
    },
  },
};
