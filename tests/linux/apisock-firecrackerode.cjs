// SPDX-License-Identifier: LGPL-2.1-or-later
// apisock-firecrackerode.cjs DIRECTORY SOCKET: makes requests at a unix socket with firecrackerode, by its functions where it has one, else by what carries them.
// Lines of JSON in: name, method, path, body. Lines out: status and text, or error; the first one says whether the client could be loaded.
const readline = require("node:readline");

const [directory, socketPath] = process.argv.slice(2);
const answer = (line) => process.stdout.write(JSON.stringify(line) + "\n");
let vm;
try {
	vm = new (require(directory))({ socketPath });
} catch (error) {
	answer({ error: error.message.split("\n")[0] });
	process.exit();
}
answer({});

// by operation: the identifier of the path, the body
const functions = {
	describeInstance: () => vm.info(),
	createSyncAction: (id, body) => vm.action(body.action_type),
	putGuestBootSource: (id, body) => vm.bootSource(body),
	putGuestDriveByID: (id, body) => vm.drive(id).createPreboot(body),
	putMachineConfiguration: (id, body) => vm.machineConfig().update(body),
	getMachineConfiguration: () => vm.machineConfig().get(),
	putLogger: (id, body) => vm.logger(body),
	putMetrics: (id, body) => vm.metrics(body),
	putGuestVsock: (id, body) => vm.vsock(body),
};

const carry = (method, path, data) =>
	new Promise((resolve, reject) => vm.modem.dial({ method, path, data, statusCodes: { 200: true, 204: true } }, (error, json) => (error ? reject(error) : resolve(json))));

(async () => {
	for await (const line of readline.createInterface({ input: process.stdin })) {
		const { name, method, path, body } = JSON.parse(line);
		try {
			const json = await (functions[name] ? functions[name](path.split("/").pop(), body) : carry(method, path, body ?? undefined));
			answer({ status: json === null ? 204 : 200, text: json === null ? "" : JSON.stringify(json) });
		} catch (error) {
			answer(error.statusCode ? { status: error.statusCode, text: JSON.stringify(error.json) } : { error: String(error) });
		}
	}
})();
