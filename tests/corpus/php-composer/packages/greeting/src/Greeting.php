<?php

namespace Corpus;

final class Greeting
{
    public static function text(): string
    {
        return "corpus php-composer\n";
    }
}
