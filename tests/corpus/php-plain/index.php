<?php

header("Content-Type: text/plain");
echo "corpus php-plain\n";
