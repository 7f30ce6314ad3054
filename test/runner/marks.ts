/** What lines begin with by which `inside.ts` tells `main.ts`, across the machine's console, what it does. */

/** Followed by the name of the program that begins. */
export const BEGIN = '#begin ';
/** Followed by a `Result` in JSON. */
export const RESULT = '#result ';
