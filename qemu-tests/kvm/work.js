// Worker threads, files, a child and a timer, as node's programs use them.
const fs = require('fs');
const crypto = require('crypto');
const { exec } = require('child_process');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

if (isMainThread) {
    const workers = [1, 2, 3, 4].map((factor) => new Promise((resolve) => {
        new Worker(__filename, { workerData: factor }).on('message', resolve);
    }));
    Promise.all(workers).then((sums) => {
        console.log('workers', sums.join(' '));
        fs.writeFileSync('file', 'x'.repeat(100000));
        console.log(crypto.createHash('sha256').update(fs.readFileSync('file')).digest('hex'));
        exec('echo from a child; exit 3', (error, output) => {
            console.log(output.trim(), error.code);
            setTimeout(() => console.log('timer'), 20);
        });
    });
} else {
    let sum = 0;
    for (let i = 0; i < 100000; i += 1) {
        sum += i * workerData;
    }
    parentPort.postMessage(sum);
}
