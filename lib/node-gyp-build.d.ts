// The one function that rvq uses of node-gyp-build, which ships no types.

declare module "node-gyp-build" {
  const nodeGypBuild: {
    /** The file of the addon below a package's folder; throws where there is none for this machine. */
    resolve(root: string): string;
  };
  export default nodeGypBuild;
}
