// The sheet of levels: its text goes to the clipboard, the page to a printer.
"use strict";
{
  const copy = document.getElementById("copy-levels");
  const text = document.getElementById("levels-text");
  const said = document.getElementById("levels-said");
  copy.closest(".buttons").hidden = false;
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      said.textContent = "Copied.";
    } catch { // a browser that forbids it: the text is there to be copied
      text.closest("details").open = true;
      getSelection().selectAllChildren(text);
      said.textContent = "The text is marked: copy it by Ctrl+C.";
    }
  });
  document.getElementById("print-levels").addEventListener("click", () => window.print());
}
