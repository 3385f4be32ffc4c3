'use strict';

exports.greeting = 'Hello from a workspace';
