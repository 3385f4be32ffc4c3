module.exports = "node-monorepo";
