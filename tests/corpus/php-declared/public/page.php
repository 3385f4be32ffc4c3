<?php echo "page ", $_SERVER["PATH_INFO"] ?? "";
