// SPDX-License-Identifier: LGPL-2.1-or-later
// apisock-swagger.mjs NODE_MODULES DESCRIPTION SOCKET: makes requests at a unix socket with swagger-client, by the names that the description gives them.
// Lines of JSON in: name (of the operation), path (which may end with an identifier), body. Lines out: status and text, or error; the first one is empty.
import fs from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import readline from "node:readline";

const [modules, description, socketPath] = process.argv.slice(2);
const require = createRequire(modules + "/");
const SwaggerClient = require("swagger-client").default ?? require("swagger-client");
const yaml = require("js-yaml");

function userFetch(url, request) {
	return new Promise((resolve, reject) => {
		const { pathname } = new URL(url);
		const out = http.request({ socketPath, path: pathname, method: request.method, headers: request.headers }, (answer) => {
			let text = "";
			answer.on("data", (data) => (text += data));
			answer.on("end", () => resolve(new Response(answer.statusCode === 204 ? null : text, { status: answer.statusCode, headers: answer.headers })));
		});
		out.on("error", reject);
		if (request.body !== undefined && request.body !== null)
			out.write(request.body);
		out.end();
	});
}

const client = await SwaggerClient({ spec: yaml.load(fs.readFileSync(description, "utf8")) });

function parametersOf(operation, id, body) {
	const values = {};
	for (const path of Object.values(client.spec.paths))
		for (const method of Object.values(path))
			for (const parameter of method?.operationId === operation ? method.parameters ?? [] : [])
				values[parameter.name] = parameter.in === "body" ? body : id;
	return values;
}

process.stdout.write("{}\n");
for await (const line of readline.createInterface({ input: process.stdin })) {
	const { name, path, body } = JSON.parse(line);
	let result;
	try {
		const answer = await client.execute({ operationId: name, parameters: parametersOf(name, path.split("/").pop(), body), userFetch });
		result = { status: answer.status, text: answer.text };
	} catch (error) {
		result = error.response ? { status: error.response.status, text: error.response.text } : { error: String(error) };
	}
	process.stdout.write(JSON.stringify(result) + "\n");
}
