<?php

require __DIR__ . '/../vendor/autoload.php';

if ($_SERVER['REQUEST_URI'] === '/slow') {
    // Longer than a stop without grace would leave it.
    sleep(2);
}
if ($_SERVER['REQUEST_URI'] === '/log') {
    error_log('a line for the log');
}
echo (new Corpus\Page($_SERVER['REQUEST_URI']))->text();
