// A certified authorization server (oidc-provider) and an MCP server that takes its JWTs; prints the MCP server's port.
//
// Registration, PKCE, resource indicators, rotation with reuse detection, device flow, revocation, DPoP. Every person
// is Ann, who agrees to everything. `/stats` tells what happened, `/expire` makes the MCP server refuse what was issued.
import http from "node:http";
import { createRemoteJWKSet, calculateJwkThumbprint, decodeProtectedHeader, jwtVerify } from "jose";
import Provider from "oidc-provider";

const stats = { refreshes: 0, logins: 0, reuse: 0, registrations: 0, calls: 0, revocations: 0, strangers: 0 };
let issued = new Set();
let refused = new Set();
let requireDPoP = false;

const resourceServer = http.createServer(serveResource);
await new Promise((done) => resourceServer.listen(0, "127.0.0.1", done));
const origin = `http://127.0.0.1:${resourceServer.address().port}`;
const resource = `${origin}/mcp`;

const front = http.createServer();
await new Promise((done) => front.listen(0, "127.0.0.1", done));
const issuer = `http://127.0.0.1:${front.address().port}`;

const provider = new Provider(issuer, {
  scopes: ["openid", "offline_access", "read", "write"],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  clientDefaults: { grant_types: ["authorization_code", "refresh_token"], id_token_signed_response_alg: "RS256" },
  issueRefreshToken: async (ctx, client, code) => client.grantTypeAllowed("refresh_token") && code.scopes.has("offline_access"),
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  async loadExistingGrant(ctx) {
    const grant = new provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
    grant.addOIDCScope("openid offline_access read write");
    grant.addResourceScope(resource, "read write");
    await grant.save();
    return grant;
  },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  features: {
    devInteractions: { enabled: false },
    registration: { enabled: true, issueRegistrationAccessToken: false },
    revocation: { enabled: true },
    deviceFlow: { enabled: true },
    dPoP: { enabled: true, nonceSecret: Buffer.alloc(32, 1), requireNonce: () => requireDPoP },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo(ctx, indicator) {
        if (indicator !== resource) throw new Error("unknown resource");
        return { scope: "read write", audience: resource, accessTokenFormat: "jwt", accessTokenTTL: 3600 };
      },
    },
  },
  ttl: { AccessToken: 3600, RefreshToken: 86400, Grant: 86400, Session: 86400, Interaction: 600 },
  cookies: { keys: ["only a test"] },
});
provider.on("grant.success", (ctx) => {
  if (ctx.oidc.params.grant_type === "refresh_token") stats.refreshes += 1;
  else stats.logins += 1;
});
provider.on("grant.revoked", (ctx) => {
  if (ctx.path.endsWith("/token") && !ctx.path.includes("revocation")) stats.reuse += 1;
});
provider.on("registration_create.success", () => (stats.registrations += 1));
provider.on("access_token.issued", (token) => issued.add(token.jti));
provider.on("server_error", (ctx, error) => console.error(error));

const oidc = provider.callback();
front.on("request", async (request, response) => {
  if (request.url.startsWith("/token/revocation")) stats.revocations += 1;
  if (!request.url.startsWith("/interaction/")) return oidc(request, response);
  const { prompt, params } = await provider.interactionDetails(request, response);
  const result = prompt.name === "login" ? { login: { accountId: "ann" } } : { consent: {} };
  if (params.scope?.includes("deny")) Object.assign(result, { error: "access_denied" });
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
});

const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));

async function holder(request) {
  const [scheme, token] = (request.headers.authorization ?? "").split(" ");
  if (!token) return null;
  const { payload } = await jwtVerify(token, keys, { issuer, audience: resource });
  if (refused.has(payload.jti)) return null;
  if (payload.cnf?.jkt) {
    const { jwk } = decodeProtectedHeader(request.headers.dpop ?? "");
    if (scheme !== "DPoP" || (await calculateJwkThumbprint(jwk)) !== payload.cnf.jkt) return null;
  }
  return payload;
}

function send(response, status, body, headers = {}) {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

async function serveResource(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString();
  const path = request.url.split("?")[0];
  if (path === "/stats") return send(response, 200, { ...stats, issuer });
  if (path === "/expire") {
    refused = new Set(issued);
    return send(response, 200, {});
  }
  if (path === "/nonces") {
    requireDPoP = true;
    return send(response, 200, {});
  }
  if (path === "/.well-known/oauth-protected-resource/mcp") {
    const scopes = ["read"];
    return send(response, 200, { resource, authorization_servers: [issuer], scopes_supported: scopes });
  }
  if (path !== "/mcp") {
    if (body.includes("refresh_token") || body.includes("client_secret")) stats.strangers += 1;
    return send(response, 404, {});
  }
  const who = await holder(request).catch(() => null);
  if (who === null) {
    const challenge = `Bearer resource_metadata="${origin}/.well-known/oauth-protected-resource/mcp"`;
    return send(response, 401, {}, { "www-authenticate": challenge });
  }
  const message = JSON.parse(body);
  if (message.id === undefined) return send(response, 202, {});
  let result = {};
  if (message.method === "server/discover") {
    result = { supportedVersions: ["2026-07-28"], capabilities: { tools: {} }, ttlMs: 0, cacheScope: "private" };
  } else if (message.method === "tools/call") {
    stats.calls += 1;
    result = { content: [{ type: "text", text: who.sub ?? "nobody" }] };
  }
  return send(response, 200, { jsonrpc: "2.0", id: message.id, result: { resultType: "complete", ...result } });
}

console.log(resourceServer.address().port);
// It ends with whoever started it, however that ends.
process.stdin.on("end", () => process.exit(0)).resume();
