// Colours: the system's, or those that were chosen, which the browser keeps.

const dark = matchMedia("(prefers-color-scheme: dark)");
const kept = "danetc-theme";

/** Lets a select choose; `onChange` gets the theme of pictures, `light` or `dark`. */
export function followTheme(select, onChange) {
  const shown = () => select.value || (dark.matches ? "dark" : "light");
  const show = () => {
    const before = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = shown();
    if (before && before !== shown()) onChange(shown());
  };
  try {
    select.value = localStorage.getItem(kept) ?? "";
  } catch { /* a browser may keep nothing */ }
  select.addEventListener("change", () => {
    try {
      localStorage.setItem(kept, select.value);
    } catch { /* as above */ }
    show();
  });
  dark.addEventListener("change", show);
  show();
  return shown;
}
