// What a hook leaves behind is what the server reads.
require("node:fs").writeFileSync(process.argv[2], "node-hooks");
