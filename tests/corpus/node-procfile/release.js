console.log("released");
