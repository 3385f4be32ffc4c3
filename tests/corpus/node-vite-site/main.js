document.title = "node-vite-site";
