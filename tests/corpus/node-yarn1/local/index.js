module.exports = "node-yarn1";
