// A list of notes: `GET /` returns them, `POST /` adds the text that is sent.
//
// It knows nothing of migrations. It expects the table that `migrations/` makes, and is started
// by the entrypoint once that is there.

const { createServer } = require("node:http");
const { text } = require("node:stream/consumers");
const { DatabaseSync } = require("node:sqlite");

const database = new DatabaseSync(process.env.MIGRATOR_DATABASE);
const all = database.prepare("SELECT id, text, done FROM notes ORDER BY id");
const add = database.prepare("INSERT INTO notes (text) VALUES (?) RETURNING id, text, done");

async function answer(request) {
  switch (`${request.method} ${request.url}`) {
    case "GET /":
      return [200, all.all()];
    case "POST /":
      return [201, add.get(await text(request))];
    default:
      return [404, { error: "not found" }];
  }
}

const server = createServer(async (request, response) => {
  const [status, body] = await answer(request).catch((error) => [500, { error: error.message }]);
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(`${JSON.stringify(body)}\n`);
});

process.on("SIGTERM", () => {
  server.close(() => database.close());
  server.closeAllConnections();
});

server.listen(Number(process.env.PORT || 8000), () => {
  console.log(`listening on port ${server.address().port}`);
});
