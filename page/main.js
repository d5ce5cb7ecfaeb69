document.querySelector("main").textContent = "hero_proc cleanup";
