// Package auth says who is asking: people by password and session cookie, agents by
// bearer token. It decides; it stores nothing itself.
//
// The decisions, each with its reason:
//
//   - Passwords are hashed with argon2id, 19 MiB, 2 passes, 1 lane, as OWASP advises,
//     and stored as PHC strings, so that the parameters can be raised later: a stored
//     hash is checked with its own. A new password has 10 to 1,024 bytes and is not one
//     of those that everybody tries first; there are no rules about kinds of characters.
//   - One hash costs about 30 ms of a core and 19 MiB, so logins are a way to exhaust a
//     server. At most one per two cores runs at once, so that passwords never take
//     more than half of the machine; who would wait longer than a second is told to
//     come back. Before any hashing, attempts are limited per address prefix
//     (IPv4 /24, IPv6 /56), per account, and per account and prefix together, so that
//     somebody who guesses cannot lock the owner out from elsewhere.
//   - An unknown user costs the same hash and gets the same answer as a wrong password.
//   - A session is a random token of 256 bits in the cookie __Host-vigil: Secure,
//     HttpOnly, SameSite=Lax, Path=/, no Domain. Only its SHA-256 is stored, so whoever
//     reads the store cannot log in. A login ends after a fixed time, with a logout,
//     with a new password and with the removal of the account.
//   - An agent token is 256 random bits behind a prefix that secret scanners find. Only
//     its SHA-256 is stored. A slow hash would protect nothing: 256 bits cannot be
//     guessed. Lookup is by hash, and the stored hash is compared in constant time.
//   - Requests that change something are refused when the browser says that they come
//     from another site (Sec-Fetch-Site, then Origin): net/http's CrossOriginProtection.
//     There are no CSRF tokens. SameSite=Lax is the second line.
//   - Where to go after a login is only ever a path of this site.
//
// Browsers keep Secure cookies only from https pages, and from http pages of the
// machine itself: Chromium (156 was tried) and Firefox take them from
// http://127.0.0.1 and http://localhost, Safari does not. On plain http from any other
// address the login seems to work and the next page asks for it again: Login logs a
// warning then, and PlainHTTP lets the login page say so beforehand.
package auth
