setInterval(() => console.log("worked"), 1000);
