// Makes every call of npm's marathon-node 1.1.0 against the stand-in: calls.js URL GENERATION.
'use strict';

const assert = require('assert');
const marathon = require('marathon-node');

const [url, generation] = process.argv.slice(2);
const client = marathon(url);
const calls = new Set();

// Counts the calls of each group of resources.
function of(group) {
    return new Proxy(client[group], {
        get: (target, name) => (...args) => {
            calls.add(`${group}.${String(name)}`);
            return target[name](...args);
        },
    });
}
const app = of('app'), deployments = of('deployments'), groups = of('groups'), tasks = of('tasks');
const events = of('events'), info = of('info'), leader = of('leader'), queue = of('queue');
const misc = of('misc'), subscriptions = of('subscriptions');

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function until(what) {
    for (const end = Date.now() + 15000; Date.now() < end; await sleep(20)) {
        const it = await what();
        if (it) return it;
    }
    throw new Error('waited in vain');
}

const settle = () => until(async () => (await deployments.getList()).length === 0);

async function refused(status, promise) {
    try {
        await promise;
    } catch (why) {
        return assert.strictEqual(why.statusCode, status, why);
    }
    throw new Error('was not refused');
}

async function play() {
    assert.strictEqual(await misc.ping(), 'pong');
    const about = await info.get();
    assert(about.frameworkId && about.elected);
    assert((await leader.get()).leader);

    const seen = new Set();
    const source = events.createEventSource();
    const kinds = ['event_stream_attached', 'deployment_info', 'deployment_success',
        'status_update_event'];
    kinds.forEach((kind) => source.addEventListener(kind, (it) => {
        assert.strictEqual(JSON.parse(it.data).eventType, kind);
        seen.add(kind);
    }));
    await until(async () => seen.has('event_stream_attached'));
    const plain = await events.attach().catch((why) => why);
    assert(plain.statusCode === 200 || plain.statusCode === 405, plain);
    if (plain.destroy) plain.destroy();

    const made = await app.create({id: 'x', cmd: 'exec sleep 1000', mem: 32, instances: 2});
    assert.strictEqual(made.id, '/x');
    await settle();
    await refused(409, app.create({id: 'x', cmd: 'exec sleep 1000'}));
    assert.strictEqual((await app.getList({embed: 'apps.tasks'})).apps[0].tasks.length, 2);
    assert.strictEqual((await app.getOne('x')).app.tasksRunning, 2);
    await refused(404, app.getOne('nobody'));
    assert((await app.update('x', {instances: 3}, true)).deploymentId);
    await settle();
    assert((await app.restart('x', false)).deploymentId);
    await settle();
    const running = (await app.getTasks('x')).tasks;
    assert.strictEqual(running.length, 3);
    assert((await app.killTask('x', running[0].id, true)).deploymentId);
    await settle();
    const killed = (await app.killTasks('x', {scale: false})).tasks.map((it) => it.id);
    assert.strictEqual(killed.length, 2);
    // Those that were killed may be listed until they have ended; others come for them.
    const left = await until(async () => {
        const listed = (await tasks.getList()).tasks;
        const others = listed.filter((it) => it.startedAt && !killed.includes(it.id));
        return others.length === 2 && others;
    });
    assert((await tasks.kill({ids: [left[0].id]}, true, false)).deploymentId);
    await settle();
    const versions = (await app.getVersions('x')).versions;
    assert.strictEqual((await app.getVersion('x', versions[0])).id, '/x');

    await app.create({id: 'broken', cmd: 'exit 3', backoffSeconds: 100});
    await until(async () => (await app.getOne('broken')).app.lastTaskFailure);
    const row = await until(async () => (await queue.get()).queue[0]);
    assert.strictEqual(row.app.id, '/broken');
    await queue.resetDelay('broken');
    const stuck = (await deployments.getList())[0];
    await deployments.destroy(stuck.id, true);
    await settle();
    await app.destroy('broken', true);
    await settle();

    await groups.create({id: '/team', apps: [{id: 'one', cmd: 'exec sleep 1000', mem: 32}]});
    await settle();
    assert.strictEqual((await groups.getOne('team')).apps[0].id, '/team/one');
    assert((await groups.getList()).groups.some((it) => it.id === '/team'));
    await groups.update('team', {apps: [{id: 'one', cmd: 'exec sleep 2000', mem: 32}]}, true);
    await settle();
    await groups.destroy('team', true);
    await settle();

    // What the stand-in does not have, and says so.
    await refused(500, subscriptions.getList());
    await refused(500, subscriptions.create('http://127.0.0.1:1/'));
    await refused(500, subscriptions.delete('http://127.0.0.1:1/'));

    kinds.forEach((kind) => assert(seen.has(kind), kind));
    source.close();
    await app.destroy('x');
    assert((await leader.abdicate()).message);

    const all = Object.keys(client).filter((it) => it !== 'apps')
        .flatMap((group) => Object.keys(client[group]).map((name) => `${group}.${name}`));
    assert.deepStrictEqual([...calls].sort(), all.sort());
    console.log(`${calls.size} calls, all that the client has`);
}

play().then(() => process.exit(0), (why) => {
    console.error(generation, why);
    process.exit(1);
});
