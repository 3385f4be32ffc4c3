<?php

namespace Corpus;

class Page
{
    public function __construct(private string $path)
    {
    }

    public function text(): string
    {
        return "corpus php-declared {$this->path} " . getenv('GREETING') . "\n";
    }
}
